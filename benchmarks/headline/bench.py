"""`cim bench headline`: cells of the matrix, each compiled and simulated, in parallel processes."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.headline.cases import BATCHES, CONTEXTS, MODELS, SCOPES, Cell, Scope, Way, every, some
from benchmarks.headline.compare import Line
from benchmarks.headline.kept import append_results, numbers_hash, read_results
from benchmarks.headline.measured import Measured, measured, tdp_of_threads
from benchmarks.headline.plot import plot_of
from benchmarks.headline.programs import NoRoomError, model_file, program_of
from benchmarks.headline.simulate import built, charge_of, host_of, run_of
from benchmarks.headline.systems import PLACES, needed_bytes
from benchmarks.headline.table import brief, data, text
from benchmarks.registry import Report, Say
from isa.diagnostics import fail
from isa.hardware import Hardware, load_target
from models.configs import CONFIGS, LlamaConfig, OptConfig
from runtime.sinks.files import make_folder, whole_file


@dataclass(frozen=True, slots=True)
class Job:
    """A program of a cell, and the scopes that it is for."""

    cell: Cell
    place: str
    way: Way
    scopes: tuple[Scope, ...]

    @property
    def effort(self) -> float:
        """How long it takes, roughly: what lies in arrays, and more if the whole model does."""
        return needed_bytes(self.cell, self.place) * (4.0 if self.way is Way.CIM else 1.0)


def cells_of(options: Namespace) -> list[Cell]:
    """The cells that the options ask for: a selection, or all; or those of given models, contexts and batches.

    Raises `CimError` E0001 for a model that is not there, or whose nodes have other names.
    """
    if not (options.model or options.context or options.batch):
        found = every() if options.full else some()
        return [replace(cell, capacity=options.capacity) for cell in found]
    models = tuple(options.model or MODELS)
    for name in models:
        known_model(name)
    contexts, batches = options.context or CONTEXTS, options.batch or BATCHES
    return [
        Cell(model, context, batch, options.capacity)
        for model in models
        for context in contexts
        for batch in batches
    ]


def known_model(name: str) -> None:
    """Whether a model can be compared. Raises `CimError` E0001."""
    if not isinstance(CONFIGS.get(name), LlamaConfig | OptConfig):
        known = ", ".join(n for n, config in CONFIGS.items() if isinstance(config, LlamaConfig | OptConfig))
        raise fail("E0001", f"there is no model {name!r} to compare", help=f"known are {known}")


def jobs_of(cells: Sequence[Cell], scopes: Sequence[Scope], ways: Sequence[Way]) -> list[Job]:
    """The programs that the cells need: one for each way that has a scope of those."""
    made = []
    for cell in cells:
        for way in ways:
            own = tuple(scope for scope in SCOPES[way] if scope in scopes)
            made += [Job(cell, PLACES[way], way, own)] if own else []
    return sorted(made, key=lambda job: -job.effort)


def done(job: Job, stated: Hardware, folder: Path) -> list[Line]:
    """The lines of a job. That a cell does not fit is a line too."""
    cell, way = job.cell, job.way
    try:
        program = program_of(cell, job.place, stated, folder)
    except NoRoomError as error:
        return [Line(cell, scope, way, refused=str(error)) for scope in job.scopes]
    run, size = run_of(program, cell.context, way), built(cell, job.place, program)
    return [Line(cell, s, way, "", charge_of(run, s, way), size, host_of(run)) for s in job.scopes]


@contextmanager
def folder_for(kept: Path | None) -> Iterator[Path]:
    """The folder for programs: the given one, which is made, or one for the time being. Raises `CimError` E0003."""
    if kept is None:
        with TemporaryDirectory(prefix="cim-headline-") as folder:
            yield Path(folder)
        return
    make_folder(kept)
    yield kept


def lines_of(jobs: Sequence[Job], targets: dict[Way, Hardware], options: Namespace, say: Say) -> list[Line]:
    """All lines, in the order of the matrix: those of jobs that were kept, and of the others, which are run."""
    kept, found, to_run = read_results(options.resume), list[Line](), list[Job]()
    for job in jobs:
        known = kept.get((job.cell, job.way, numbers_hash(targets[job.way])), ())
        lines = [line for line in known if line.scope in job.scopes]
        if len(lines) == len(job.scopes):
            found += lines
        elif not options.only_kept:
            to_run.append(job)
    for job, made in _run(to_run, targets, options, say):
        found += made
        if options.resume is not None:
            append_results(options.resume, targets[job.way], made)
    scopes, ways = list(Scope), list(Way)
    return sorted(found, key=lambda n: (n.cell, ways.index(n.way), scopes.index(n.scope)))


def _run(
    jobs: Sequence[Job], targets: dict[Way, Hardware], options: Namespace, say: Say
) -> Iterator[tuple[Job, list[Line]]]:
    """The lines of each job, as it is done."""
    with folder_for(options.keep) as folder:
        for job in jobs:
            model_file(job.cell, folder)
        if options.jobs == 1:
            for number, job in enumerate(jobs, 1):
                say(f"{number} of {len(jobs)}: {job.cell.name}, {job.place}")
                yield job, done(job, targets[job.way], folder)
            return
        with ProcessPoolExecutor(min(options.jobs, len(jobs) or 1)) as pool:
            waiting = {pool.submit(done, job, targets[job.way], folder): job for job in jobs}
            for number, future in enumerate(as_completed(waiting), 1):
                job = waiting[future]
                yield job, future.result()
                say(f"{number} of {len(jobs)}: {job.cell.name}, {job.place}")


def bench(options: Namespace, say: Say) -> Report:
    """`cim bench headline [--model M] [--context N] [--batch N] [--scope S] [--full] ...`."""
    cells = cells_of(options)
    scopes = [scope for scope in Scope if not options.scope or scope.value in options.scope]
    ways = [way for way in Way if not options.way or way.value in options.way]
    hybrid, whole = load_target(options.hybrid), load_target(options.target)
    targets = {way: whole if way is Way.CIM else hybrid for way in ways}
    lines = lines_of(jobs_of(cells, scopes, ways), targets, options, say)
    here: dict[tuple[Cell, Scope], Measured] = {}
    if options.measure and not options.brief:  # when nothing else runs
        here = measured(cells, scopes, options.tdp or tdp_of_threads(), say)
    if options.output is not None:
        with whole_file(options.output) as file:
            file.write(plot_of(lines))
    shown = brief(lines, targets) if options.brief else text(lines, targets, here)
    return Report(shown, data(lines, targets, here))
