"""Masks of GPUs as far as no driver need be asked."""

import pytest

from records.gpu_masks import NAMES, MaskError, require, why_no_gpu


@pytest.mark.parametrize(
    "mask",
    ["", " ", "-1", "0", "0, 1", "3,-1,2", "GPU-8932f937", "MIG-8932f937-d72c/7/0"]
    + ["NoDevFiles", "gpu-1,2", "MIG-GPU-8932f937-d72c/7/0", "0,"],
)
def test_what_the_runtimes_understand(mask):
    require(dict.fromkeys(NAMES, mask))


@pytest.mark.parametrize("mask", ["all", "none", "cuda:0", "0;1", "0 1", "0,x", "1.5"])
@pytest.mark.parametrize("name", NAMES)
def test_a_slip_is_refused_by_name(name, mask):
    with pytest.raises(
        MaskError, match=f"^{name}={mask}: .* is neither a GPU's number"
    ):
        require({name: mask})


@pytest.mark.parametrize(
    "environment, why",
    [
        ({}, ""),
        ({NAMES[0]: ""}, "CUDA_VISIBLE_DEVICES= hides every GPU"),
        ({NAMES[0]: "-1"}, "CUDA_VISIBLE_DEVICES=-1 hides every GPU"),
        ({NAMES[0]: "-1,0"}, "CUDA_VISIBLE_DEVICES=-1,0 hides every GPU"),
        ({NAMES[0]: "0", NAMES[2]: "-1"}, "ROCR_VISIBLE_DEVICES=-1 hides every GPU"),
        ({NAMES[0]: "7"}, "none is seen under CUDA_VISIBLE_DEVICES=7"),
    ],
)
def test_the_cause(environment, why):
    assert why_no_gpu(environment) == why
