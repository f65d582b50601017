"""Find attention, however it is written: anchored on the softmax, everything else by what it computes."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np

from compiler.ir.dims import Shape
from compiler.ir.graph import Attention, Cache, Node, Role, Value
from compiler.ir.rewrite import Editor
from compiler.ir.tensor import Array, tensor
from compiler.ops.call import Attributes
from compiler.pipeline import Compilation, Finding, Pass
from compiler.recognition.biases import UNSETTLED
from compiler.recognition.layouts import (
    Moved,
    Tags,
    as_three_axes,
    follow,
    heads_to,
    leading_axes,
    take_columns,
    without_repeats,
)
from compiler.recognition.masks import NOTHING_SEEN, SAME_FOR_ALL, MaskReader, Scores, read_scores
from compiler.recognition.presents import Kept, Presents, kept_of
from compiler.recognition.regions import Prober, Survey, is_onnx, merge_sources
from compiler.recognition.temperatures import factor_of, move_to_queries, multiplied

HELP = "attention must be softmax(scale * q k^T + causal, windowed or no mask) v, heads of equal size"

NO_MASK = (
    "sequences run without padding, so leave a mask of padding out of the export, or let it be an input"
    " `attention_mask` that is 1 where a token is (PyTorch: key_padding_mask=attention_mask == 0)"
)

WEIGHTS_WANTED = "the probabilities themselves are wanted, which the chip never has all at once"

NOT_BY_TOKEN = "the queries are not one row a token"

TIME_FIRST = "the queries are not one row a token: the model's input seems to have the time first"

WAYS_OUT = {
    NOTHING_SEEN: NO_MASK,
    UNSETTLED: "fix the length of the sequence: --dim NAME=VALUE, or an export for one length",
    SAME_FOR_ALL: "make learned queries (latents) an input [batch, rows, features] of the model",
    WEIGHTS_WANTED: "export the model without them (need_weights=False, output_attentions=False)",
    NOT_BY_TOKEN: "make what the layers work on the model's input, a row for each token",
    TIME_FIRST: "turn inputs and outputs to [batch, sequence, features] in the model, or set batch_first=True",
}
"""What to do, where that is more than to write attention as it is usually written."""


@dataclass(frozen=True)
class RecogniseAttention(Pass):
    """Find attention around each softmax over products of two activations.

    softmax(mask(cap(s q k^T))) v == attention(q, k, v)
    Layout, head repetition and the cache are read off from numbered elements (`passes.layouts`), the
    mask from probes of the sizes (`passes.masks`). Cache inputs and outputs become `Graph.caches`.
    """

    def run(self, c: Compilation) -> bool:
        """Rewrites `c.graph`."""
        editor = Editor(c.require_graph())
        editor.changed = False
        survey = Survey(editor)
        for node in list(editor.nodes()):
            if is_onnx(node, "MatMul"):
                move_to_queries(survey, node)
        matcher = _Matcher(survey, Prober(survey))
        for node in list(editor.nodes()):
            if editor.holds(node) and is_onnx(node, "Softmax") and survey.is_data(node.output.name):
                problem = matcher.visit(node)
                if problem is not None:
                    c.findings.append(Finding(node.sources[0], problem, _way_out(problem)))
        _retire_cache_inputs(editor)
        c.graph = editor.finish()
        return editor.changed


def _way_out(problem: str) -> str:
    """What to do about an attention that is refused."""
    return NO_MASK if "made of the input" in problem else WAYS_OUT.get(problem, HELP)


@dataclass(frozen=True, slots=True)
class _Heads:
    """An operand as rows: which columns of `rows` each head reads, what stands before them.

    Without `rows` all of it comes from the cache. `cross`: the rows are those of the source. `time_first`: they are
    [sequence, batch, features].
    """

    rows: str
    columns: tuple[int, ...]
    heads: int
    depth: int
    scale: float
    sources: tuple[str, ...]
    past: str | None = None
    kept: Kept | None = None
    cross: bool = False
    time_first: bool = False


class _MismatchError(ValueError):
    """This is not an attention that can be expressed, and why."""


@dataclass(frozen=True, slots=True)
class _Site:
    """The nodes of one attention: products of scores and of the context, what lies between."""

    scores: Scores
    product: Node
    context: Node


class _Matcher:
    def __init__(self, survey: Survey, prober: Prober) -> None:
        self.survey = survey
        self.prober = prober
        self.masks = MaskReader(survey, prober)
        self.presents = Presents(survey, prober)

    def visit(self, softmax: Node) -> str | None:
        """Rewrite the attention around `softmax`, or say why not."""
        try:
            site = self._site(softmax)
            q = self._queries(site)
            k, v = self._kept(site, q, 1), self._kept(site, q, 2)
            self._rewrite(site, q, k, v)
        except _MismatchError as mismatch:
            return str(mismatch)
        except ValueError:
            # Numbered elements that cannot be arranged as heads: some axis is not what it has to be.
            return "queries, keys and values are not [batch, heads, tokens, depth]"
        return None

    def _site(self, softmax: Node) -> _Site:
        editor = self.survey.editor
        rank = len(softmax.output.shape or ())
        assert not isinstance(softmax.op, Attention)
        axis = Attributes(softmax.op).integer("axis", -1)  # type: ignore[arg-type]
        if axis not in (-1, rank - 1):
            raise _MismatchError("the softmax is not over the last axis")
        scores = read_scores(self.survey, softmax)
        if isinstance(scores, str):
            raise _MismatchError(scores)
        product = editor.producer(scores.start)
        context = editor.users(scores.end)
        if scores.end in editor.outputs or len(context) > 1:
            raise _MismatchError(WEIGHTS_WANTED)
        is_product = len(context) == 1 and is_onnx(context[0], "MatMul")
        if product is None or not is_product or context[0].inputs[0] != scores.end:
            raise _MismatchError("the probabilities do not multiply values in one product")
        if context[0].output.shape is None:
            raise _MismatchError("the shape of the result does not follow from the model's input shapes")
        return _Site(scores, product, context[0])

    # The three operands.

    def _operand(self, site: _Site, which: int) -> str:
        name = (*site.product.inputs, site.context.inputs[1])[which]
        return name if which else factor_of(self.survey, name)[0]

    def _followed(self, site: _Site, which: int) -> Moved:
        past = 2 if self.prober.has_past() else 0
        moved = follow(self.survey, self.prober, self.prober.at(3, past, batch=2), self._operand(site, which))
        if moved is None:
            name = ("queries", "keys", "values")[which]
            raise _MismatchError(f"the {name} are not rearranged rows of one activation")
        return moved

    def _queries(self, site: _Site) -> _Heads:
        moved = self._followed(site, 0)
        sizes = self._sizes()
        of_source = all(map(self.survey.of_source, moved.region.roots))
        count, wanted = moved.tags.shape[-2], sizes["source" if of_source else "sequence"]
        if count != wanted:
            raise _MismatchError(TIME_FIRST if count == sizes["batch"] else NOT_BY_TOKEN)
        tags = moved.tags.reshape(sizes["batch"], -1, count, moved.tags.shape[-1])
        return self._heads(moved, tags, None)

    def _kept(self, site: _Site, q: _Heads, which: int) -> _Heads:
        """Keys or values: one row a token, heads possibly repeated, behind the cache if there is one."""
        moved = self._followed(site, which)
        sizes = self._sizes()
        lead = (sizes["batch"], q.heads)
        tags = moved.tags.swapaxes(-1, -2) if which == 1 else moved.tags
        if tags.ndim == 5 and tags.shape[2] == 1:
            tags = np.repeat(tags, q.heads // tags.shape[1], axis=2)
        if tags.ndim == 4 and tags.shape[1] == 1:
            # One head that the product gives to all queries.
            tags = np.repeat(tags, q.heads, axis=1)
        try:
            tags = tags.reshape(*lead, *tags.shape[-2:])
        except ValueError:
            raise _MismatchError("keys and values do not have the queries' heads") from None
        past = next((r for r in moved.region.roots if self._is_past(r)), None)
        found = self._heads(moved, tags, past)
        if past is not None:
            self._check_past(moved, tags, past, found.heads, which)
        once = tags[:, :: q.heads // found.heads]
        return replace(found, kept=kept_of(moved, once))

    def _heads(self, moved: Moved, tags: Tags, past: str | None) -> _Heads:
        """Read the columns of each head off the tags [batch, heads, tokens, depth] of the new tokens."""
        sizes = self._sizes()
        roots = [r for r in moved.region.roots if r != past]
        if not roots and past is not None and self._is_cross(past):
            repeats = tags.shape[1] // moved.shapes[past][-3]
            return _Heads("", (), tags.shape[1] // repeats, tags.shape[-1], moved.scale, (), past, cross=True)
        if len(roots) != 1:
            raise _MismatchError("an operand mixes several activations")
        (rows,) = roots
        cross = self._is_cross(rows)
        width = moved.shapes[rows][-1]
        old = sizes["past"] if past is not None else 0
        new = tags[:, :, old:] - moved.starts[rows]
        tokens, depth = new.shape[2:]
        if tokens != sizes["source" if cross else "sequence"] or new.min() < 0:
            raise _MismatchError("an operand does not have one row for every token of the step")
        orders = (_columns(new, width, time_first) for time_first in (False, True))
        time_first, columns = next(((n, c) for n, c in enumerate(orders) if c is not None), (0, None))
        if columns is None:
            raise _MismatchError("an operand mixes rows of different tokens")
        kept = without_repeats(columns)
        if kept is None:
            raise _MismatchError("heads share keys and values unevenly")
        flat = tuple(int(i) for i in kept.reshape(-1))
        found = _Heads(rows, flat, len(kept), depth, moved.scale, moved.region.sources, past, cross=cross)
        return replace(found, time_first=bool(time_first))

    def _is_cross(self, name: str) -> bool:
        """Whether a value follows from the source alone."""
        return self.survey.of_source(name)

    def _check_past(self, moved: Moved, tags: Tags, past: str, heads: int, which: int) -> None:
        """Old rows must come first, in the cache's order, heads repeated like the new ones."""
        old = moved.shapes[past][-2]
        shape = moved.shapes[past]
        wanted = moved.starts[past] + np.arange(np.prod(shape)).reshape(shape)
        if len(shape) == 5 and shape[0] == 2:
            # Keys and values in one input.
            wanted = wanted[which - 1]
        if len(shape) == 3 and shape[-1] % heads == 0:
            # Heads side by side.
            wanted = wanted.reshape(*shape[:2], heads, -1).swapaxes(1, 2)
        if wanted.ndim != 4 or wanted.shape[1] != heads:
            raise _MismatchError("the cache does not have the heads of the new keys and values")
        wanted = np.repeat(wanted, tags.shape[1] // heads, axis=1)
        if not np.array_equal(tags[:, :, :old], wanted):
            raise _MismatchError("the cache is not [batch, heads, tokens, depth], old tokens first")

    def _is_past(self, name: str) -> bool:
        kept = (Role.PAST, Role.CROSS)
        return any(i.name == name and i.role in kept for i in self.survey.editor.inputs)

    def _sizes(self) -> dict[str, int]:
        past = 2 if self.prober.has_past() else 0
        return dict(self.prober.at(3, past, batch=2).sizes)

    # The result.

    def _rewrite(self, site: _Site, q: _Heads, k: _Heads, v: _Heads) -> None:
        if (
            q.heads % k.heads
            or k.heads != v.heads
            or q.depth != k.depth
            or (k.past is None) != (v.past is None)
            or k.cross is not v.cross
        ):
            raise _MismatchError("heads of queries, keys and values do not fit together")
        if q.cross and not k.cross:
            raise _MismatchError("rows of the source attend to rows of the tokens")
        of_source, cross = q.cross, k.cross and not q.cross
        mask = self.masks.read(site.scores, q.heads, cross, of_source)
        if isinstance(mask, str):
            raise _MismatchError(mask)
        if v.scale != 1.0:
            raise _MismatchError("the values are scaled")
        scale = q.scale * k.scale * site.scores.scale
        presents = [self.presents.find(h.kept, which) for which, h in enumerate((k, v))]
        if of_source and (mask.causal or any(presents)):
            raise _MismatchError("the rows of the source are kept, or do not all see each other")
        kept = mask.causal or cross or k.past is not None or any(presents)
        cache = len(self.survey.editor.caches) if kept else None
        limits = (mask.causal, mask.window, site.scores.softcap)
        op = Attention(q.heads, k.heads, q.depth, v.depth, scale, *limits, cache, cross)
        operands = [self._rows(h, site, n) if h.rows else "" for h, n in ((q, "q"), (k, "k"), (v, "v"))]
        factor = factor_of(self.survey, site.product.inputs[0])[1]
        if factor is not None:
            operands[0] = multiplied(self.survey, operands[0], factor, q.depth, site.product.inputs[0])
        if mask.bias is not None:
            operands.append(self._bias(mask.bias))
        if cache is not None:
            self._declare(k, v, presents)
        sources = (*q.sources, *k.sources, *v.sources)
        sources += merge_sources((site.product, *site.scores.nodes, site.context))
        self._replace(site.context, op, operands, tuple(dict.fromkeys(sources)))

    def _rows(self, heads: _Heads, site: _Site, name: str) -> str:
        wanted = np.array(heads.columns, np.int64)
        rows = take_columns(self.survey, heads.rows, wanted, f"{site.context.output.name}.{name}")
        if rows is None:
            raise _MismatchError("the heads are interleaved in a way that no column range expresses")
        return as_three_axes(self.survey, rows, heads.sources, heads.time_first)

    def _bias(self, bias: Array) -> str:
        """The bias as a constant; layers that have the same share one."""
        return self.survey.editor.shared_constant("attention_bias", tensor(bias))

    def _declare(self, k: _Heads, v: _Heads, presents: list[str]) -> None:
        editor = self.survey.editor
        number = re.search(r"\d+", k.past or "")
        layer = int(number.group()) if number else len(editor.caches)
        ends = [n for n in (k.past, *presents) if n]
        flat = any(len(editor.shape(n) or ()) == 3 for n in ends)
        pasts = (k.past or "", v.past or "")
        editor.caches.append(
            Cache(layer, k.heads, k.depth, v.depth, *pasts, presents[0], presents[1], k.cross, flat)
        )

    def _replace(self, context: Node, op: Attention, operands: list[str], sources: tuple[str, ...]) -> None:
        editor, output = self.survey.editor, context.output
        shape: Shape = (*leading_axes(self.survey, operands[0]), op.heads * op.v_head_dim)
        made = Value(editor.fresh(f"{output.name}.rows"), output.dtype, shape)
        editor.remove(context)
        editor.insert(op, operands, made, sources)
        self.survey.note(made.name)
        heads_to(self.survey, made.name, op.heads, output, sources)


def _columns(new: Tags, width: int, time_first: bool) -> Tags | None:
    """[heads, depth]: the columns that each head reads of its token's row; None if it reads other rows.

    `new` numbers the elements of rows of `width` columns, [batch, sequence, .] or, time first, [sequence, batch, .].
    """
    batch, _, tokens, _ = new.shape
    row = np.arange(batch * tokens).reshape((tokens, batch) if time_first else (batch, tokens))
    row = row.T if time_first else row
    columns = new - row.reshape(batch, 1, tokens, 1) * width
    same = np.array_equal(columns, np.broadcast_to(columns[:1, :, :1], columns.shape))
    return columns[0, :, 0] if same else None


def _retire_cache_inputs(editor: Editor) -> None:
    """Cache inputs and outputs that became `Graph.caches` are no inputs and outputs any more."""
    retired = {n for c in editor.caches for n in (c.past_key, c.past_value)}
    given = {n for c in editor.caches for n in (c.present_key, c.present_value)}
    editor.outputs = [o for o in editor.outputs if o not in given]
    editor.inputs = [i for i in editor.inputs if i.name not in retired]
