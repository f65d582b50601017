"""`cim bench mapping`: the suite, setup by setup in parallel processes."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.mapping.cases import Model, Setup, full, matching, quick
from benchmarks.mapping.kept import append_results, read_baseline, read_results
from benchmarks.mapping.measure import FILLS, Result, measure
from benchmarks.mapping.table import data, text
from benchmarks.registry import Report, Say
from compiler.optimisations import Optimisation
from models import PYTINY
from models import path as model_path
from models.make import make

Job = tuple[Setup, frozenset[Optimisation], Sequence[float]]
"""A setup, what it is compiled without, and how full its system may be."""

Task = tuple[Setup, Path, frozenset[Optimisation], Sequence[float], bool]
"""The arguments of `measure`."""


def bench(options: Namespace, say: Say) -> Report:
    """`cim bench mapping [--full] [--only PATTERN] [--jobs N] [--no-predictions] [--baseline FILE] [--resume FILE]`."""
    baseline = read_baseline(options.baseline) if options.baseline is not None else None
    chosen = full() if options.full else quick()
    setups = matching(chosen, options.only)
    done = read_results(options.resume) if options.resume is not None else {}
    todo = [setup for setup in setups if setup.name not in done]

    def keep(setup: Setup, results: list[Result]) -> None:
        done[setup.name] = results
        if options.resume is not None:
            append_results(options.resume, setup.name, results)

    jobs = [(setup, frozenset[Optimisation](), FILLS) for setup in todo]
    run(jobs, options.jobs, say, predicts=not options.no_predictions, keep=keep)
    results = [result for setup in setups for result in done[setup.name]]
    return Report(text(results, baseline), data(results), bool(results))


def run(
    jobs: Sequence[Job],
    processes: int,
    say: Say,
    *,
    predicts: bool = True,
    keep: Callable[[Setup, list[Result]], None] = lambda _setup, _results: None,
) -> list[list[Result]]:
    """The results of each job, in the jobs' order, with predictions or without. What takes long begins first.

    `keep` is given the results of each setup as soon as they are there.
    """
    found: dict[int, list[Result]] = {}
    with TemporaryDirectory() as folder:
        files = {model: path for model, path in files_of({setup.model for setup, *_ in jobs}, Path(folder))}
        order = sorted(range(len(jobs)), key=lambda index: -jobs[index][0].tokens)
        tasks = {i: (jobs[i][0], files[jobs[i][0].model], *jobs[i][1:], predicts) for i in order}
        for index, results in _measured(tasks, processes):
            found[index] = results
            keep(jobs[index][0], results)
            say(f"{len(found)} of {len(jobs)}: {jobs[index][0].name}")
    return [found[index] for index in range(len(jobs))]


def files_of(models: Iterable[Model], folder: Path) -> Iterator[tuple[Model, Path]]:
    """A file for each model: the one that ships, or shapes alone."""
    for model in models:
        path = model_path(PYTINY) if model.trained else folder / f"{model.name}.onnx"
        if not model.trained:
            make(model.config, path, layers=model.layers or None, shapes_only=True)
        yield model, path


def _measured(tasks: Mapping[int, Task], processes: int) -> Iterator[tuple[int, list[Result]]]:
    if processes == 1:
        for index, task in tasks.items():
            yield index, measure(*task)
        return
    with ProcessPoolExecutor(processes) as pool:
        waiting = {pool.submit(measure, *task): index for index, task in tasks.items()}
        for future in as_completed(waiting):
            yield waiting[future], future.result()
