"""Triton's interpreter, mended and made quick. What a kernel takes in it is hardly arithmetic: each number and each sum
was told anew what its shape is, and the shape its type, by a name that nobody reads. What was found once is kept here;
every answer is the one that Triton 3.6 gives."""

from __future__ import annotations

import functools
from dataclasses import replace
from types import NoneType
from typing import Any, NamedTuple

import torch
from triton import language
from triton.language import core, semantic
from triton.runtime import interpreter


def prepare() -> None:
    """To be called once, before a kernel runs."""
    _mend_indices()
    _mend_fp8()
    _patch_once()
    _remember_shapes()
    _remember_types()
    # No sum of these small shapes overflows, and to look for that takes longer than all of them.
    builder = interpreter.interpreter_builder
    builder.options = replace(builder.options, sanitize_overflow=False)


def _mend_indices() -> None:
    """Triton 3.6 makes numbers of arrays with one element, which numpy 2.4 refuses: no loop would have bounds."""
    plain = interpreter._patch_lang_tensor

    def mended(tensor: Any, scope: Any) -> None:
        plain(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: self.handle.data.item())

    interpreter._patch_lang_tensor = mended


def _mend_fp8() -> None:
    """Triton 3.6 loses the carry where it rounds to fp8 (7.9 becomes 4) and cuts off its smallest numbers."""
    convert = interpreter._convert_float

    def rounded(data: Any, given: Any, wanted: Any, mode: Any) -> Any:
        if wanted != language.float8e4nv:
            return convert(data, given, wanted, mode)
        return torch.from_numpy(data.astype("float32")).to(torch.float8_e4m3fn).view(torch.uint8).numpy()

    interpreter._convert_float = rounded


def _patch_once() -> None:
    """The language is patched for good, not for each launch and again for each call of a kernel: nothing in this
    process compiles."""
    patch = interpreter._patch_lang

    @functools.cache
    def once(kernel: Any) -> Any:
        patch(kernel)
        return interpreter._LangPatchScope()  # which has nothing to take back

    def patch_attribute(owner: Any, name: str, member: Any, builder: Any, scope: Any) -> None:
        meant = semantic.TritonSemantic(builder)
        plain = getattr(member, "__wrapped__", member)  # without the question for what is given right here

        def patched(*args: Any, **kwargs: Any) -> Any:
            kwargs["_semantic"] = meant
            return plain(*args, **kwargs)

        scope.set_attr(owner, name, patched)

    interpreter._patch_lang = once
    interpreter._patch_attr = patch_attribute


class Shape(NamedTuple):
    """What is the same in all blocks of one shape. They share it, as nobody changes any of it."""

    numbers: Any  # as a block's type has them
    numel: int
    constants: Any  # as a block itself has them
    count: Any
    text: str


def _remember_shapes() -> None:
    """A shape is looked at once: whether it is one, how many elements it has, and as what constants."""
    known: dict[str, Shape] = {}
    no_block = core.tuple([]), core.constexpr(1)
    block, broadcast = core.block_type.__init__, semantic.TritonSemantic.broadcast_impl_value

    def shape_of(given: Any) -> Shape | None:
        if isinstance(given, core.tuple):
            if (found := vars(given).get("shape_of")) is not None:
                return found  # type: ignore[no-any-return]
            given = given.values
        # By its text, as True and 1.0 would be found where 1 is.
        return known.get(repr([one.value if isinstance(one, core.constexpr) else one for one in given]))

    def block_type(self: Any, element_ty: Any, shape: Any) -> None:
        found = shape_of(shape) if isinstance(shape, (list, core.tuple)) else None
        if found is None:
            block(self, element_ty, shape)  # which refuses what is no shape
            constants = core.tuple([core.constexpr(one) for one in self.shape])
            found = Shape(self.shape, self.numel, constants, core.constexpr(self.numel), str(self.shape))
            known[repr(list(self.shape))] = self.shape.shape_of = found
        else:
            self.element_ty, self.shape, self.numel = element_ty, found.numbers, found.numel
            self.name = f"<{found.text}, {element_ty}>"

    def tensor(self: Any, handle: Any, type: Any) -> None:
        self.handle, self.type, self.dtype = handle, type, type.scalar
        if type.is_block():
            found = type.shape.shape_of
            self.shape, self.numel = found.constants, found.count
        else:
            self.shape, self.numel = no_block

    def broadcast_impl_value(self: Any, left: Any, right: Any) -> Any:
        if left.type.is_block() and right.type.is_block() and left.type.shape is right.type.shape:
            return left, right  # which most are
        return broadcast(self, left, right)

    core.block_type.__init__ = block_type
    core.tensor.__init__ = tensor
    semantic.TritonSemantic.broadcast_impl_value = broadcast_impl_value


def _remember_types() -> None:
    """A tuple's type is made when somebody asks, numpy's types are looked up once, what is plain is seen at once."""

    def with_values(self: Any, args: Any, type: Any = None) -> None:
        self.values = list(args)
        if type is not None:
            self.type = type if isinstance(type, core.tuple_type) else core.tuple_type(type)

    plain = core._unwrap_if_constexpr

    def unwrapped(given: Any) -> Any:
        return given if type(given) in bare else plain(given)

    bare = {int, bool, float, str, NoneType, core.dtype, core.tensor}
    core._unwrap_if_constexpr = unwrapped
    core.tuple.__init__ = with_values
    core.tuple.type = functools.cached_property(lambda self: core._type_for_tuple_values(self.values))
    core.tuple.type.__set_name__(core.tuple, "type")

    find, known = interpreter._get_np_dtype, dict[str, Any]()

    def numpy_type(dtype: Any) -> Any:
        name = dtype.scalar.name  # of a block it is its elements'
        if name not in known:
            known[name] = find(dtype)
        return known[name]

    interpreter._get_np_dtype = numpy_type
