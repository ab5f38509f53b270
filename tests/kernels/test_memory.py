"""Memory of large results, which is used again as soon as nothing holds it, and not before."""

import gc
import multiprocessing
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from temporal.kernels import _memory, empty_cache, use
from temporal.kernels._memory import empty
from temporal.neurons import LIF

MEGABYTE = 1 << 20


@pytest.fixture(autouse=True)
def _nothing_waits():
    empty_cache()
    yield
    empty_cache()


def floats(megabytes: float) -> torch.Tensor:
    return empty((int(megabytes * MEGABYTE / 4),), torch.float32)


def lent_at_once(megabytes: float) -> None:
    """So much may wait from now on: what waits adds nothing to what was lent at once."""
    _memory._most = _memory._lent + int(megabytes * MEGABYTE)


def waiting() -> list[int]:
    """Bytes of the pieces that wait, longest unused first."""
    return [piece.nbytes for piece in (*_memory._idle, *_memory._returned)]


def overlap(a: torch.Tensor, b: torch.Tensor) -> bool:
    start, other = a.data_ptr(), b.data_ptr()
    return start < other + b.nbytes and other < start + a.nbytes


def test_the_memory_of_what_is_gone_is_used_again():
    first = floats(3)
    place = first.data_ptr()
    del first
    second = floats(3)
    assert second.data_ptr() == place
    third = floats(3)
    assert not overlap(second, third)


class _Holder:
    pass


def _in_a_cycle(tensor):
    holder = _Holder()
    holder.me, holder.tensor = holder, tensor
    return lambda: None


HOLDERS = {
    "view": lambda t: t[7:9],
    "another type": lambda t: t.view(torch.uint8)[5:],
    "detached": lambda t: t.detach(),
    "storage": lambda t: t.untyped_storage(),
    "numpy": lambda t: t.numpy(),
    "numpy view": lambda t: t.numpy()[3:10][::2],
    "numpy of a view": lambda t: t[100:].numpy(),
    "numpy through dlpack": lambda t: np.from_dlpack(t),
    "torch through dlpack": lambda t: torch.from_dlpack(t),
    "torch of numpy": lambda t: torch.from_numpy(t.numpy()[2:]),
    "memoryview": lambda t: memoryview(t.numpy())[5:],
    "graph": lambda t: t.detach().requires_grad_().square(),  # keeps what it squared
    "parameter": lambda t: torch.nn.Parameter(t),
    "cycle": _in_a_cycle,
}


@pytest.mark.parametrize("name", HOLDERS)
def test_nothing_is_used_again_while_it_is_held(name):
    tensor = floats(2)
    gc.collect()
    gc.disable()  # a cycle is found when it is looked for
    try:
        tensor.fill_(3.0)
        place = tensor.data_ptr()
        holder = HOLDERS[name](tensor)
        del tensor
        others = [floats(2) for _ in range(3)]
        assert place not in [other.data_ptr() for other in others]
        assert not waiting()
        if name == "graph":
            leaf = holder.grad_fn.next_functions[0][0].variable
            holder.sum().backward()
            assert (leaf.grad == 6).all()
            del leaf
        del holder
    finally:
        gc.enable()
    gc.collect()
    assert place in [floats(2).data_ptr() for _ in range(1)]
    del others


def test_a_result_outlives_the_call_that_made_it():
    """No value of one result is seen in another: each is copied when it comes and looked at again at the end."""
    layer, kept = LIF(4.0, surrogate="sigmoid"), []
    with use("cpu"):
        for scale in (0.5, 1.0, 2.0, 0.0, 3.0):
            x = (torch.rand(10, 4, 8000) * scale).requires_grad_()
            spikes, v = layer(x)
            (grad,) = torch.autograd.grad(spikes.sum() + v.sum(), x)
            results = [t.detach() for t in (spikes, v, grad)]
            kept.append([(t, t.clone()) for t in results if scale != 1.0])  # one set is not kept
    assert sum(t.nbytes >= MEGABYTE for t, _ in kept[0]) == 2
    for results in kept:
        for tensor, copy in results:
            assert torch.equal(tensor, copy)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.integers(2**18, 2**20)), max_size=40))
def test_any_order_of_taking_and_leaving(moves):
    live: list[tuple[int, torch.Tensor]] = []
    for number, (leave, which, size) in enumerate(moves):
        if leave and live:
            del live[which % len(live)]
        else:
            tensor = empty((size,), torch.float32).fill_(number)
            live.append((number, tensor))
        assert all(tensor[0] == n and tensor[-1] == n for n, tensor in live)
    assert all((tensor == n).all() for n, tensor in live)


# ---- what it is ----


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 5), (7,), (1 << 17,), (1 << 20,), (101, 3, 7, 613), (1, 1234567)])
def test_like_torch_empty(shape, dtype):
    """Shape, type, strides, its own storage; and as hostile as torch.empty here: every value is NaN."""
    for _ in range(2):  # new, then used before
        ours, theirs = empty(shape, dtype), torch.empty(shape, dtype=dtype)
        assert (ours.shape, ours.dtype, ours.stride(), ours.device) == (
            theirs.shape,
            dtype,
            theirs.stride(),
            theirs.device,
        )
        assert ours.is_contiguous() and not ours.requires_grad and ours.storage_offset() == 0
        assert ours.isnan().all()
        if ours.nbytes >= MEGABYTE:
            assert ours.data_ptr() % 64 == 0
            assert ours.untyped_storage().nbytes() == ours.nbytes
        ours.zero_()
        assert not ours.any()
        del ours


def test_small_results_are_torchs(monkeypatch):
    taken = []
    take = _memory._taken
    monkeypatch.setattr(_memory, "_taken", lambda size: taken.append(size) or take(size))
    empty((MEGABYTE // 4 - 1,), torch.float32)
    assert not taken
    empty((MEGABYTE // 4,), torch.float32)
    assert taken == [MEGABYTE]


def test_a_piece_serves_what_is_a_little_smaller_and_nothing_else():
    lent_at_once(20)
    place = floats(4).data_ptr()
    assert floats(4.01).data_ptr() != place
    assert floats(3.1).data_ptr() != place  # 4 is more than 1.25 of it
    assert floats(3.3).data_ptr() == place


def test_of_several_pieces_the_smallest_that_fits():
    pieces = {size: floats(size) for size in (4.8, 4.2, 4.4)}
    places = {size: piece.data_ptr() for size, piece in pieces.items()}
    del pieces
    first, second = floats(4.1), floats(4.1)
    assert [first.data_ptr(), second.data_ptr()] == [places[4.2], places[4.4]]


# ---- how much waits ----


def test_beyond_the_limit_the_longest_unused_goes_first(monkeypatch):
    monkeypatch.setattr(_memory, "_limit", lambda: 8 * MEGABYTE)
    for piece in [floats(size) for size in (2, 3, 5, 1.5)]:
        del piece
    assert len(waiting()) <= 4
    empty_cache()
    lent_at_once(60)
    pieces = [floats(size) for size in (2, 3, 5, 1.5)]
    while pieces:
        del pieces[0]
    assert waiting() == [int(size * MEGABYTE) for size in (2, 3, 5, 1.5)]
    other = floats(20)  # no piece serves it
    assert waiting() == [int(size * MEGABYTE) for size in (5, 1.5)]
    del other
    floats(40)
    assert sum(waiting()) <= 8 * MEGABYTE + 40 * MEGABYTE  # what came back since


def test_the_limit_holds_where_pieces_fit(monkeypatch):
    monkeypatch.setattr(_memory, "_limit", lambda: 4 * MEGABYTE)
    peak = [floats(1) for _ in range(20)]
    del peak
    for _ in range(3):
        floats(1)
    assert sum(waiting()) <= 5 * MEGABYTE  # the limit, and what came back since


def test_what_waits_adds_nothing_to_what_was_lent_at_once():
    first, second = floats(4), floats(6)
    del first, second
    third = floats(8)  # neither serves it
    assert sum(waiting()) + third.nbytes <= 10 * MEGABYTE
    del third
    fourth = floats(10)
    assert not waiting()
    del fourth
    floats(9)
    assert waiting() == [10 * MEGABYTE]  # used again


def test_the_limit_is_a_part_of_the_machines_memory():
    assert 1 << 26 <= _memory._limit() <= 1 << 42


def test_empty_cache_gives_everything_back_and_takes_nothing_from_anybody():
    lent_at_once(20)
    kept = floats(2).fill_(1.0)
    floats(3), floats(4)
    gone = [weakref.ref(piece) for piece in (*_memory._idle, *_memory._returned)]
    assert len(gone) == 2
    empty_cache()
    gc.collect()
    assert not waiting() and all(piece() is None for piece in gone)
    assert not overlap(kept, floats(2)) and (kept == 1).all()


# ---- threads and processes ----


def test_threads_at_once():
    """Each writes a number of its own, and finds it unless another was lent the same memory."""
    failures = []

    def work(own):
        for turn in range(100):
            size = MEGABYTE // 4 + (own * 7 + turn) % 5 * 1000
            first, second = (empty((size,), torch.float32).fill_(own + part) for part in (0, 0.5))
            if not ((first == own).all() and (second == own + 0.5).all()):
                failures.append(own)
            if turn % 20 == own:
                empty_cache()

    threads = [threading.Thread(target=work, args=(own,)) for own in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def _child(queue, inherited):
    torch.set_num_threads(1)  # torch's own threads do not survive a fork, either
    tensor = floats(2).fill_(5.0)
    inherited.fill_(7.0)  # the child's own copy of the page
    queue.put((float(tensor.sum()), float(inherited.sum())))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_its_own(monkeypatch):
    """Also when it was forked while a thread held the lock; and what waits in the parent stays as it is."""
    context = multiprocessing.get_context("fork")
    kept = floats(2).fill_(1.0)
    floats(2).fill_(2.0)
    queue, count = context.Queue(), kept.numel()
    child = context.Process(target=_child, args=(queue, kept), daemon=True)
    with _memory._lock:
        child.start()
    try:
        assert queue.get(timeout=60) == (5.0 * count, 7.0 * count)
        child.join(timeout=20)
        assert child.exitcode == 0
    finally:
        child.kill()
    assert (kept == 1).all()


STEADY = """
import resource, torch
from temporal.kernels import use
from temporal.neurons import LIF

torch.set_num_threads(1)
layer, x, ones = LIF(10.0, surrogate="sigmoid"), torch.rand(100, 128, 768).requires_grad_(), torch.ones(100, 128, 768)
faults = []
with use("cpu"):
    for _ in range(12):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        x.grad = None
        layer(x)[0].backward(ones)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(*faults)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts page faults as Linux does")
def test_a_training_loop_maps_no_fresh_pages(monkeypatch):
    """In its steady state, with the system's allocator as it is: a count, not a time.

    A tensor here has 9600 pages, and is of a size that glibc gives back to the system each time (32 MB and more). The last
    eight steps together may map a tenth of one, for the interpreter's own objects.
    """
    for variable in ("MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "LD_PRELOAD"):
        monkeypatch.delenv(variable, raising=False)
    result = subprocess.run([sys.executable, "-c", STEADY], capture_output=True, text=True, check=True)
    faults = [int(word) for word in result.stdout.split()]
    assert faults[0] > 9600 and sum(faults[4:]) < 960
