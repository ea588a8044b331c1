"""Safetensors files: against the format's own library, and what the arrays and tensors may do."""

from __future__ import annotations

import gc
import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lightning_core as lc
from lightning_core.models.weights import WeightsError, load_weights

DTYPES = [
    np.bool_, np.uint8, np.int8, np.uint16, np.int16, np.float16, np.uint32, np.int32, np.float32,
    np.uint64, np.int64, np.float64, np.complex64,
]  # fmt: skip


def write(path: Path, dtype: str, shape: list[int], data: bytes, pad: int = 0) -> Path:
    """A file of one tensor "a"; `pad` spaces after the header move the data."""
    entry = {"dtype": dtype, "shape": shape, "data_offsets": [0, len(data)]}
    header = json.dumps({"a": entry}).encode()
    header += b" " * (-len(header) % 8 + pad)
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return path


@pytest.fixture
def ones(tmp_path: Path) -> Path:
    return write(tmp_path / "ones.safetensors", "F32", [2, 3], np.ones(6, np.float32).tobytes())


def test_reads_what_the_formats_library_writes(tmp_path: Path, rng: np.random.Generator) -> None:
    library = pytest.importorskip("safetensors.numpy", reason="the format's own library")
    arrays = {f"{np.dtype(t).name}é": rng.integers(0, 2, (3, 1, 4)).astype(t) for t in DTYPES}
    arrays |= {"empty": np.zeros((0, 7), np.float32), "scalar": np.array(2.5)}
    path = tmp_path / "all.safetensors"
    library.save_file(arrays, path, metadata={"format": "np", "ü": '"\n'})
    loaded = load_weights(path)
    assert list(loaded) == sorted(arrays, key=lambda name: name.encode())
    for name, array in arrays.items():
        assert loaded[name].dtype == array.dtype
        assert loaded[name].flags.aligned and loaded[name].flags.c_contiguous
        np.testing.assert_array_equal(loaded[name], array, strict=True)
    file = lc.SafetensorsFile(path)
    assert file.metadata() == {"format": "np", "ü": '"\n'}
    assert file.keys() == list(loaded) and len(file) == len(arrays)
    assert "scalar" in file and "Scalar" not in file
    assert file.info("float32é") == {"dtype": "F32", "shape": (3, 1, 4), "nbytes": 48}
    assert float(file.tensor("scalar").numpy()) == 2.5


def test_arrays_are_windows_on_the_file_that_never_change_it(ones: Path) -> None:
    before = ones.read_bytes()
    file = lc.SafetensorsFile(ones)
    file.raw("a")[:] = 0
    assert not file.tensor("a").numpy().any()
    x = load_weights(ones)["a"]
    lc.add(x, x, out=x)
    assert (x == 2).all()
    assert ones.read_bytes() == before


def test_arrays_outlive_the_reader_and_the_file(ones: Path) -> None:
    file = lc.SafetensorsFile(ones)
    tensor, raw = file.tensor("a"), file.raw("a")
    array = load_weights(ones)["a"]
    del file
    ones.unlink()
    gc.collect()
    assert (tensor.numpy() == 1).all() and (array == 1).all()
    assert (raw.view(np.float32) == 1).all()


@pytest.mark.parametrize("pad", range(8))
def test_misaligned_data_is_copied(tmp_path: Path, pad: int) -> None:
    values = np.arange(3.0)
    path = write(tmp_path / "m.safetensors", "F64", [3], values.tobytes(), pad)
    array, tensor = load_weights(path)["a"], lc.SafetensorsFile(path).tensor("a")
    assert array.flags.aligned
    np.testing.assert_array_equal(array, values)
    np.testing.assert_array_equal(lc.add(tensor, tensor).numpy(), values + values)


def test_dtypes_that_numpy_or_the_ops_lack(tmp_path: Path) -> None:
    bits = (np.array([1.5, -2], np.float32).view(np.uint32) >> 16).astype(np.uint16)
    path = write(tmp_path / "half.safetensors", "BF16", [2], bits.tobytes())
    tensor = lc.SafetensorsFile(path).tensor("a")
    assert lc.cast(tensor, dtype="float32").numpy().tolist() == [1.5, -2]
    with pytest.raises(WeightsError, match=r"BF16 for tensor 'a' in .*half\.safetensors"):
        load_weights(path)
    file = lc.SafetensorsFile(write(tmp_path / "f8.safetensors", "F8_E4M3", [2], b"\x38\xb8"))
    assert file.raw("a").tolist() == [0x38, 0xB8]
    with pytest.raises(RuntimeError, match=r"F8_E4M3 for tensor \"a\" of .*f8\.safetensors"):
        file.tensor("a")


def test_more_dimensions_than_ops_take(tmp_path: Path) -> None:
    path = write(tmp_path / "deep.safetensors", "U8", [1] * 11 + [2], b"ab")
    assert load_weights(path)["a"].shape == (1,) * 11 + (2,)
    with pytest.raises(RuntimeError, match="at most 8 dimensions, found 12"):
        lc.SafetensorsFile(path).tensor("a")


def test_paths_of_every_kind(ones: Path) -> None:
    for path in (ones, str(ones), os.fsencode(ones)):
        assert lc.SafetensorsFile(path).keys() == ["a"]
    odd = ones.with_name(os.fsdecode(b"odd\xff.safetensors"))
    ones.rename(odd)
    assert list(load_weights(odd)) == ["a"]
    odd.write_bytes(b"")
    with pytest.raises(WeightsError, match=r"odd\\xff\.safetensors"):
        load_weights(odd)


@pytest.mark.parametrize("path", [None, 3, ["x"]])
def test_what_is_no_path_is_a_type_error(path: Any) -> None:
    with pytest.raises(TypeError):
        lc.SafetensorsFile(path)


def test_errors_name_the_file_and_the_reason(ones: Path, tmp_path: Path) -> None:
    file = lc.SafetensorsFile(ones)
    for call in (file.info, file.tensor, file.raw):
        with pytest.raises(ValueError, match=r'1 tensors of .*ones\.safetensors, found "b"'):
            call("b")
    with pytest.raises(WeightsError, match="a directory"):
        load_weights(tmp_path)
    with pytest.raises(WeightsError, match="[Nn][Uu][Ll]"):
        load_weights("a\0b")
    ones.write_bytes(ones.read_bytes()[:-1])
    with pytest.raises(WeightsError, match=r"within 23 bytes of data.*ones\.safetensors"):
        load_weights(ones)
