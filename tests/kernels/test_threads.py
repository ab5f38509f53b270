"""Threads of compiled kernels, among other threads and in other processes."""

import itertools
import multiprocessing
import threading

import pytest
import torch

from temporal.kernels import _threads, use
from temporal.neurons.functional import lif


@pytest.fixture(autouse=True)
def _threads_as_before():
    count = torch.get_num_threads()
    yield
    torch.set_num_threads(count)


def test_share_covers_every_item_once_with_as_many_threads_as_torch_has():
    for count, workers, grain in itertools.product((0, 1, 5, 1000), (1, 2, 4), (0, 1, 10, 400)):
        torch.set_num_threads(workers)
        seen, idents, parts = [], set(), []
        lock = threading.Lock()

        def task(first, stop, seen=seen, idents=idents, parts=parts, lock=lock):
            with lock:
                seen.extend(range(first, stop))
                idents.add(threading.get_ident())
                parts.append(stop - first)

        _threads.share(task, count, grain)
        assert sorted(seen) == list(range(count))
        assert len(idents) <= max(1, min(workers, count // max(1, grain)))
        assert len(parts) == 1 or min(parts) >= grain


def test_shares_run_at_the_same_time():
    torch.set_num_threads(2)
    barrier = threading.Barrier(2, timeout=20)
    _threads.share(lambda first, stop: barrier.wait(), 2, 1)


def test_one_thread_asks_for_no_other():
    """As in a data loader's worker, where torch has one."""
    torch.set_num_threads(1)
    idents = set()
    _threads.share(lambda first, stop: idents.add(threading.get_ident()), 1000, 1)
    assert idents == {threading.get_ident()}


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_share_raises_what_a_share_raised_after_all_have_ended(failing):
    torch.set_num_threads(3)
    ended = []

    def task(first, stop):
        if first == failing:
            raise ValueError(f"share {failing}")
        ended.append(first)

    with pytest.raises(ValueError, match=f"share {failing}"):
        _threads.share(task, 3, 1)
    assert sorted([*ended, failing]) == [0, 1, 2]


def test_server_threads_at_once():
    """Four Python threads, each with kernels that use several threads, forward and backward."""
    torch.set_num_threads(3)
    x = torch.rand(20, 2, 6000)
    threshold = torch.linspace(0.5, 1.5, 6000)

    def step():
        current = x.clone().requires_grad_()
        spikes, v, last = lif(current, decay=0.9, threshold=threshold, reset_to=0.0)
        (grad,) = torch.autograd.grad(spikes.sum() + v.sum() + last.sum(), current)
        return spikes.detach(), last.detach(), grad

    with use("cpu"):
        expected, failures = step(), []

        def serve():
            for _ in range(5):
                if not all(torch.equal(a, b) for a, b in zip(step(), expected, strict=True)):
                    failures.append(threading.get_ident())

        threads = [threading.Thread(target=serve) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures


def _child(queue):
    torch.set_num_threads(2)
    barrier = threading.Barrier(2, timeout=20)
    _threads.share(lambda first, stop: barrier.wait(), 2, 1)
    # torch's own OpenMP threads do not survive a fork; a data loader's worker has one thread for that reason.
    torch.set_num_threads(1)
    queue.put(float(lif(torch.ones(20, 2, 6000), decay=0.5, reset_to=0.0)[0].sum()))


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_child_processes(method):
    """A child begins its own threads, also where its parent's were at work before the fork."""
    context = multiprocessing.get_context(method)
    torch.set_num_threads(2)
    expected = float(lif(torch.ones(20, 2, 6000), decay=0.5, reset_to=0.0)[0].sum())
    assert _threads._pool is not None
    queue = context.Queue()
    child = context.Process(target=_child, args=(queue,), daemon=True)
    child.start()
    try:
        assert queue.get(timeout=60) == expected
        child.join(timeout=20)
        assert child.exitcode == 0
    finally:
        child.kill()
