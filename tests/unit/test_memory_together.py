"""What several models need of one GPU, or of one machine, is added up."""

import sys

import pytest

from worker.detector.inspection.together import BATCH_BYTES, Misfit, Need, misfits, on_one_gpu
from worker.detector.memory import Where

GPU, MACHINE = Where.GPU, Where.MACHINE
GB = 10**9


def quick(gigabytes: float, name: str = "quick", where: Where = GPU) -> Need:
    return Need(name, where, round(gigabytes * GB))


def vllm(name: str = "fakevlm", gigabytes: float = 8) -> Need:
    return Need(name, GPU, round(gigabytes * GB), by_share=True)


def misfit(*needs: Need, share: float = 0.9, machine: int = 10 * GB) -> Misfit | None:
    found = list(misfits(needs, {GPU: 24 * GB, MACHINE: machine}, share))
    assert len(found) < 2
    return found[0] if found else None


def test_what_fits_beside_the_share_of_vllm_is_accepted() -> None:
    assert not misfit(quick(1.5), vllm())
    assert not misfit(vllm("one"), vllm("two"), share=0.48)
    assert not misfit(quick(11), quick(12))


def test_one_model_is_left_to_its_own_check() -> None:
    assert not misfit(quick(30))
    assert not misfit(quick(30), quick(30, where=MACHINE))


REFUSED = {
    "vLLM and a classifier": (
        (quick(2.5), vllm()),
        0.9,
        (
            "the models do not fit on the GPU together. The GPU has 24.0 GB. vLLM takes 90% of it: 21.6 GB for "
            "fakevlm, and 3.0 GB are needed beside it (quick 2.5 GB, CUDA 0.5 GB)"
        ),
        'set FAKESWEEP_GPU_MEMORY_UTILIZATION to at most 0.87, or set device = "cpu" in the description of quick',
    ),
    "two of vLLM": (
        (vllm("one"), vllm("two")),
        0.5,  # the second engine finds less than half free
        "12.0 GB for one and 12.0 GB for two, and 0.5 GB are needed beside it (CUDA 0.5 GB)",
        "set FAKESWEEP_GPU_MEMORY_UTILIZATION to at most 0.48, or use fewer models",
    ),
    "two of vLLM and a classifier": (
        (vllm("one"), vllm("two"), quick(3.5)),
        0.45,
        "10.8 GB for one and 10.8 GB for two, and 4.5 GB are needed beside it (quick 3.5 GB, CUDA 1.0 GB)",
        "set FAKESWEEP_GPU_MEMORY_UTILIZATION to at most 0.4, or ",
    ),
    "a classifier that takes all": (
        (quick(30), vllm()),
        0.9,
        "30.5 GB",
        'use a larger GPU, or set device = "cpu" in the description of quick',
    ),
    "a share with which vLLM could not load its model": (
        (quick(8), vllm(gigabytes=15.4)),  # 0.64 of 24 GB are 15.36 GB
        0.9,
        "8.5 GB",
        'use a larger GPU, or set device = "cpu" in the description of quick',
    ),
    "two of vLLM that need more than half": (
        (vllm("one"), vllm("two", 15)),
        0.9,
        "21.6 GB for one and 21.6 GB for two",
        "use a larger GPU, or use fewer models",
    ),
    "two classifiers": (
        (quick(12, "one"), quick(12, "two")),
        0.9,
        "The GPU has 24.0 GB, and 24.5 GB are needed (one 12.0 GB, two 12.0 GB, CUDA 0.5 GB)",
        'use a larger GPU, or set device = "cpu" in the description of a classifier',
    ),
    "two on the CPU": (
        (quick(6, "one", MACHINE), quick(5, "two", MACHINE)),
        0.9,
        (
            "the models on the CPU need at least 11.0 GB together (one 6.0 GB, two 5.0 GB), but there are only 10.0 GB "
            "(available on this machine)"
        ),
        "use a larger machine, or smaller or fewer models",
    ),
}


@pytest.mark.parametrize("which", REFUSED)
def test_what_does_not_fit_is_refused_with_the_remedy(which: str) -> None:
    needs, share, found, remedy = REFUSED[which]
    fault = misfit(*needs, share=share)
    assert fault
    assert not fault.starts
    assert found in fault.found
    assert fault.remedy.startswith(remedy)


@pytest.mark.parametrize(("share", "starts"), [(0.87, None), (0.88, True), (0.89, True), (0.9, False)])
def test_a_classifier_starts_without_room_for_a_full_batch(share: float, starts: bool | None) -> None:
    fault = misfit(Need("quick", GPU, 2 * GB, batch=BATCH_BYTES), vllm(), share=share)
    assert (fault and fault.starts) == starts
    if fault:
        assert fault.remedy.startswith("set FAKESWEEP_GPU_MEMORY_UTILIZATION to at most 0.87,")
        assert ("full batches" in fault.found) == ("batches 0.6 GB)" in fault.found) == starts


def test_a_gpu_that_vllm_does_not_know_is_the_one_that_torch_knows() -> None:
    unknown, known, host = (sys.maxsize, Where.UNKNOWN), (20 * GB, GPU), (9 * GB, MACHINE)
    assert on_one_gpu([known, unknown, host]) == [known, known, host]
    assert on_one_gpu([unknown, unknown]) == [unknown, unknown]
    assert on_one_gpu([(21 * GB, GPU), known]) == [known, known]
