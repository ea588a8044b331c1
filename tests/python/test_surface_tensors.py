"""Tensor, Tensor64 and their views: metadata, contracts, windows and values, as programs for
lightning-core 0.1.17 use them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lightning_core as lc

CLASSES = pytest.mark.parametrize(
    ("cls", "dtype"),
    [(lc.Tensor, "float32"), (lc.Tensor64, "float64")],
    ids=["Tensor", "Tensor64"],
)
INVALID = r"^invalid value"


def numbers(*shape: int) -> Any:
    """Values that float32 rounds: the dtype a tensor keeps shows in them."""
    return np.arange(1, np.prod(shape) + 1).reshape(shape) / 3


def make(cls: Any, *shape: int) -> Any:
    return cls.from_numpy_array(numbers(*shape), list(shape))


# ---------------------------------------------------------------- making


@CLASSES
def test_new_tensors_are_zeros_on_the_cpu(cls: Any, dtype: str) -> None:
    for t in (cls([2, 3]), cls(shape=[2, 3], device="cpu"), cls.zeros([2, 3]), cls.zeros((2, 3))):
        assert type(t) is cls
        assert t.shape() == [2, 3] and t.device() == "cpu" and t.dtype() == dtype
        assert t.to_list() == [0.0] * 6


@CLASSES
def test_from_numpy_array_takes_any_shape_of_the_right_size(cls: Any, dtype: str) -> None:
    want = numbers(24).astype(dtype)
    for values in (numbers(24), numbers(4, 6), want, numbers(6, 4).T.T, numbers(6, 4)[::-1][::-1]):
        t = cls.from_numpy_array(values=values, shape=[2, 3, 4], device="cpu")
        assert t.shape() == [2, 3, 4]
        np.testing.assert_array_equal(t.to_numpy(), want)
    transposed = cls.from_numpy_array(numbers(4, 6).T, [24])
    np.testing.assert_array_equal(transposed.to_numpy(), numbers(4, 6).T.ravel().astype(dtype))
    for size in (23, 25):
        with pytest.raises(RuntimeError, match=INVALID):
            cls.from_numpy_array(numbers(size), [2, 3, 4])


@CLASSES
@pytest.mark.parametrize("device", ["metal", "cuda"])
def test_a_device_that_is_absent_is_named_at_once(cls: Any, dtype: str, device: str) -> None:
    if lc.runtime_backend_capabilities(device)["available"]:
        assert cls([2], device).device() == device
        return
    for call in (
        lambda: cls([2], device),
        lambda: cls.zeros([2], device=device),
        lambda: cls.from_numpy_array([1.0, 2.0], [2], device),
    ):
        with pytest.raises(RuntimeError, match=f"available device .cpu.*'{device}'"):
            call()


@CLASSES
def test_words_and_types_that_make_no_tensor(cls: Any, dtype: str) -> None:
    for word in ("tpu", "CPU", ""):
        with pytest.raises(ValueError, match="device"):
            cls([2], word)
    for arguments in ((), (3,), ([1.5],), (["2"],), ([2], 1), ([2], "cpu", 1)):
        with pytest.raises(TypeError):
            cls(*arguments)
    for shape in ([-1], [2, -3], [2**40, 2**40]):
        with pytest.raises(ValueError, match="shape"):
            cls(shape)


def test_tensor64_keeps_what_float32_rounds() -> None:
    assert make(lc.Tensor64, 3).to_list() == numbers(3).tolist()
    assert make(lc.Tensor, 3).to_list() == numbers(3).astype(np.float32).tolist()
    assert make(lc.Tensor, 3).to_list() != numbers(3).tolist()


# ---------------------------------------------------------------- metadata


@CLASSES
def test_metadata_are_methods(cls: Any, dtype: str) -> None:
    t = make(cls, 2, 3, 4)
    want = {
        "shape": [2, 3, 4], "strides": [12, 4, 1], "rank": 3, "numel": 24, "storage_numel": 24,
        "is_contiguous": True, "layout": "contiguous", "dtype": dtype, "device": "cpu",
    }  # fmt: skip
    assert {name: getattr(t, name)() for name in want} == want
    assert t.contract() == want
    assert {key: type(value) for key, value in t.contract().items()} == {
        key: type(value) for key, value in want.items()
    }
    assert t.validate_contract() is None


VIEW_WORDS = ("shape", "strides", "rank", "numel", "is_contiguous", "layout", "dtype",
              "offset_elements", "device")  # fmt: skip


@CLASSES
@pytest.mark.parametrize(
    ("arguments", "shape", "offset", "contiguous"),
    [
        ((0, 1, 2), [1, 3, 4], 12, True),
        ((1, 1, 3), [2, 2, 4], 4, False),
        ((2, 0, 1), [2, 3, 1], 0, False),
        ((0, 0, 2), [2, 3, 4], 0, True),
    ],
)
def test_a_slice_is_a_strided_view(
    cls: Any, dtype: str, arguments: tuple[int, int, int], shape: list[int], offset: int,
    contiguous: bool,
) -> None:  # fmt: skip
    t = make(cls, 2, 3, 4)
    axis, start, end = arguments
    view = t.slice(axis=axis, start=start, end=end)
    assert isinstance(view, lc.TensorView if cls is lc.Tensor else lc.Tensor64View)
    want = {
        "shape": shape, "strides": [12, 4, 1], "rank": 3, "numel": int(np.prod(shape)),
        "is_contiguous": contiguous, "layout": "strided", "dtype": dtype,
        "offset_elements": offset, "device": "cpu",
    }  # fmt: skip
    assert {name: getattr(view, name)() for name in VIEW_WORDS} == want
    assert view.contract() == want
    index = tuple(slice(start, end) if i == axis else slice(None) for i in range(3))
    values = numbers(2, 3, 4).astype(dtype)[index].ravel()
    assert t.slice_copy(axis, start, end) == t.to_host_view(view) == values.tolist()
    for flat in (t.slice_copy_numpy(axis, start, end), t.to_host_view_numpy(view)):
        assert flat.dtype == dtype and flat.shape == values.shape
        np.testing.assert_array_equal(flat, values)


@CLASSES
def test_a_view_is_the_tensor_under_another_shape(cls: Any, dtype: str) -> None:
    t = make(cls, 2, 3, 4)
    view = t.view(shape=[4, 6])
    assert view.contract() == {
        "shape": [4, 6], "strides": [6, 1], "rank": 2, "numel": 24, "is_contiguous": True,
        "layout": "contiguous", "dtype": dtype, "offset_elements": 0, "device": "cpu",
    }  # fmt: skip
    assert t.shape() == [2, 3, 4]  # its own is untouched
    assert t.to_host_view(view) == t.to_list()
    for bad in ([5], [4, 7], [], [0], [24, 0]):
        with pytest.raises(RuntimeError, match=INVALID):
            t.view(bad)
    with pytest.raises((RuntimeError, ValueError), match="shape"):
        t.view([-1, 24])


def test_views_are_metadata_and_not_aliases() -> None:
    t = make(lc.Tensor, 6)
    view = t.view([2, 3])
    t.from_list([9.0] * 6)
    assert t.to_host_view(view) == [9.0] * 6  # read when it is asked for
    t.reshape([3, 2])
    assert view.shape() == [2, 3]
    copy = t.to_host_view_numpy(view)
    copy[:] = 0
    assert t.to_list() == [9.0] * 6


@pytest.mark.parametrize("cls", [lc.TensorView, lc.Tensor64View])
def test_python_makes_no_views(cls: Any) -> None:
    with pytest.raises(TypeError):
        cls()
    with pytest.raises(TypeError):
        cls([2, 3])


# ---------------------------------------------------------------- contracts


@CLASSES
def test_contracts_of_views(cls: Any, dtype: str) -> None:
    t, small = make(cls, 2, 3, 4), make(cls, 2)
    view = t.slice(0, 1, 2)  # elements 12 to 23
    assert t.validate_view_contract(view=view) is None
    assert view.validate_contract() is None
    assert view.validate_contract_for_storage(storage_numel=24) is None
    for storage in (23, 12, 0):
        with pytest.raises(RuntimeError, match=INVALID):
            view.validate_contract_for_storage(storage)
    with pytest.raises(RuntimeError, match=INVALID):
        small.validate_view_contract(view)
    with pytest.raises(RuntimeError, match=INVALID):
        small.to_host_view(view)
    with pytest.raises(TypeError):
        t.validate_view_contract(t)
    with pytest.raises(TypeError):
        t.to_host_view([0, 1])


def test_a_view_of_another_dtype_is_not_read() -> None:
    t, other = make(lc.Tensor, 4), make(lc.Tensor64, 4)
    for call in (t.to_host_view, t.to_host_view_numpy):
        with pytest.raises((RuntimeError, TypeError)):
            call(other.view([4]))


def test_a_view_of_another_dtype_breaks_the_contract() -> None:
    with pytest.raises((RuntimeError, TypeError)):
        make(lc.Tensor, 4).validate_view_contract(make(lc.Tensor64, 4).view([4]))


@pytest.mark.skipif(
    not (lc.metal_available() or lc.cuda_available()),
    reason="no second device whose tensors a view could be of",
)
def test_a_view_of_another_device_breaks_the_contract() -> None:
    other = lc.Tensor([4], lc.backend_name())
    with pytest.raises(RuntimeError, match=INVALID):
        make(lc.Tensor, 4).validate_view_contract(other.view([4]))


@CLASSES
@pytest.mark.parametrize("shape", [[], [0], [2, 0, 3]], ids=str)
def test_tensors_without_a_valid_shape_construct_and_fail_their_contract(
    cls: Any, dtype: str, shape: list[int]
) -> None:
    t = cls(shape)
    assert t.shape() == shape
    with pytest.raises(RuntimeError, match=INVALID):
        t.validate_contract()


# ---------------------------------------------------------------- values


@CLASSES
def test_values_go_in_and_come_out_flat(cls: Any, dtype: str) -> None:
    t = cls([2, 3])
    assert t.from_list([0.5, -1, 2, 3, 4, 2.0**40]) is None
    assert t.to_list() == [0.5, -1, 2, 3, 4, 2.0**40]
    assert t.from_numpy(numbers(2, 3) * 2) is None
    flat = t.to_numpy()
    assert flat.shape == (6,) and flat.dtype == dtype and flat.flags.writeable
    np.testing.assert_array_equal(flat, (numbers(6) * 2).astype(dtype))
    flat[:] = 0  # a copy
    assert t.to_list() == (numbers(6) * 2).astype(dtype).tolist()
    t.from_numpy(np.arange(12, dtype=np.int64).reshape(2, 6)[:, ::2])
    assert t.to_list() == [0, 2, 4, 6, 8, 10]
    for fill in (t.from_list, t.from_numpy):
        for bad in ([1.0] * 5, [1.0] * 7, 1.0):
            with pytest.raises(RuntimeError, match=INVALID):
                fill(bad)
        with pytest.raises(TypeError):
            fill("abcdef")
    assert t.to_list() == [0, 2, 4, 6, 8, 10]  # nothing was written


@pytest.mark.parametrize("how", ["from_list", "from_numpy_array"])
@pytest.mark.parametrize("cls", [lc.Tensor, lc.Tensor64])
def test_lists_keep_the_precision_of_the_tensor(cls: Any, how: str) -> None:
    values = [1 / 3, 2**24 + 1, 0.1]
    t = cls([3])
    if how == "from_list":
        t.from_list(values)
    else:
        t = cls.from_numpy_array(values, [3])
    assert t.to_list() == np.array(values, t.dtype()).tolist()


@pytest.mark.parametrize(
    "given",
    ["f2", "f4", "f8", "g", ">f4", ">f8", "?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"],
)
@CLASSES
def test_arrays_of_any_number_type_come_in(cls: Any, dtype: str, given: str) -> None:
    t = cls([4])
    t.from_numpy(np.array([0, 1, 1, 0], given))
    assert t.to_list() == cls.from_numpy_array(t.to_numpy(), [2, 2]).to_list() == [0, 1, 1, 0]


@CLASSES
def test_reshape_is_in_place(cls: Any, dtype: str) -> None:
    t = make(cls, 2, 3, 4)
    values = t.to_list()
    assert t.reshape(shape=[6, 4]) is None
    assert t.shape() == [6, 4] and t.strides() == [4, 1] and t.rank() == 2
    assert t.to_list() == values
    for bad in ([5], [], [0], [6, 4, 2]):
        with pytest.raises(RuntimeError, match=INVALID):
            t.reshape(bad)
    for bad in ([-24], [2**40, 2**40]):
        with pytest.raises((RuntimeError, ValueError), match="shape"):
            t.reshape(bad)
    assert t.shape() == [6, 4]


@pytest.mark.parametrize(
    "arguments",
    [(0, 0, 0), (0, 1, 1), (0, 2, 1), (0, -1, 1), (0, 0, 3), (3, 0, 1), (-1, 0, 1), (2**62, 0, 1)],
)
@pytest.mark.parametrize("method", ["slice", "slice_copy", "slice_copy_numpy"])
def test_slices_outside_are_refused(method: str, arguments: tuple[int, int, int]) -> None:
    with pytest.raises(RuntimeError, match=INVALID):
        getattr(make(lc.Tensor, 2, 3, 4), method)(*arguments)


@CLASSES
def test_read_strided(cls: Any, dtype: str) -> None:
    t = make(cls, 2, 3, 4)
    flat = numbers(24).astype(dtype)
    for shape, strides, offset in (
        ([2, 2], [12, 4], 1), ([3], [7], 0), ([4, 6], [1, 4], 0), ([2, 2], [1, 1], 21),
        ([1], [99], 23),
    ):  # fmt: skip
        grid = np.indices(shape).reshape(len(shape), -1)
        want = flat[offset + np.array(strides) @ grid]
        assert t.read_strided(shape, strides, offset) == want.tolist()
    keywords = t.read_strided(out_shape=[2], source_strides=[3], offset_elements=2)
    assert keywords == flat[[2, 5]].tolist()
    assert t.read_strided([2], [3]) == flat[[0, 3]].tolist()  # from the first element


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [
        ([2, 2], [12, 12], 0), ([2], [24], 0), ([1], [1], 24), ([2, 2], [0, 1], 0),
        ([2, 2], [-1, 4], 8), ([2, 2], [12], 0), ([0], [1], 0), ([], [], 0), ([2], [2**62], 0),
        ([2**62], [4], 0), ([1], [1], 2**62),
    ],
)  # fmt: skip
def test_read_strided_outside_is_refused(shape: list[int], strides: list[int], offset: int) -> None:
    with pytest.raises(RuntimeError, match=INVALID):
        make(lc.Tensor, 2, 3, 4).read_strided(shape, strides, offset)


def test_a_negative_offset_is_named() -> None:
    with pytest.raises((RuntimeError, TypeError)):
        make(lc.Tensor, 2, 3, 4).read_strided([2], [1], -1)


@CLASSES
def test_add_has_the_shape_of_the_left(cls: Any, dtype: str) -> None:
    a, b = make(cls, 2, 3), make(cls, 6)
    total = a.add(other=b)
    assert type(total) is cls and total.shape() == [2, 3] and total.dtype() == dtype
    want = numbers(6).astype(dtype) + numbers(6).astype(dtype)
    assert total.to_list() == want.tolist()
    assert b.add(a).shape() == [6]
    assert a.to_list() == numbers(6).astype(dtype).tolist()  # operands stay
    other = lc.Tensor64 if cls is lc.Tensor else lc.Tensor
    with pytest.raises((RuntimeError, TypeError)):
        a.add(make(other, 2, 3))
    with pytest.raises(RuntimeError, match=INVALID):
        a.add(make(cls, 5))
    with pytest.raises(TypeError):
        a.add(1.0)


# ---------------------------------------------------------------- exchange with other libraries


@CLASSES
def test_dlpack_exports_the_same_memory(cls: Any, dtype: str) -> None:
    t = make(cls, 2, 3)
    want = numbers(2, 3).astype(dtype)
    array = np.from_dlpack(t)
    assert array.dtype == dtype and np.shares_memory(array, t.numpy())
    np.testing.assert_array_equal(array, want)
    t.from_numpy(-want)
    np.testing.assert_array_equal(array, -want)
    assert t.__dlpack_device__() == (1, 0)  # kDLCPU
    back = lc.from_dlpack(t)
    assert back.dtype() == dtype and np.shares_memory(back.numpy(), array)
    del t, back
    np.testing.assert_array_equal(array, -want)  # the memory outlives its tensor


def test_torch_shares_a_tensors_memory() -> None:
    torch = pytest.importorskip("torch")
    t = make(lc.Tensor, 2, 3)
    theirs = torch.from_dlpack(t)
    theirs.mul_(2)
    np.testing.assert_array_equal(t.numpy(), 2 * numbers(2, 3).astype(np.float32))


@CLASSES
def test_text_of_tensors_and_views(cls: Any, dtype: str) -> None:
    t = cls.from_numpy_array(np.arange(6.0), [2, 3])
    assert repr(t).startswith(f"Tensor(shape=(2, 3), {dtype}, cpu)")
    assert all(str(i) in repr(t) for i in range(6))
    window = t.slice(1, 1, 3)
    text = f"TensorView(shape=(2, 2), strides=(3, 1), offset=1, {dtype}, cpu)"
    assert repr(window) == text


def test_policies_hash_by_value() -> None:
    one, same = lc.Policy(strict=True, sync="never"), lc.Policy(strict=True, sync="never")
    assert one == same and hash(one) == hash(same) and one is not same
    others = [lc.Policy(), lc.Policy(strict=True), lc.Policy(download=0), lc.Policy(upload=1)]
    others += [lc.Policy(precision="fast"), lc.Policy(kernel="reference"), one]
    assert len({hash(p) for p in others}) == len(others) == len(set(others))
    assert {one: 1}[same] == 1
