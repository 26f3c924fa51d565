"""Normalize and ToTensor for a whole batch."""

import albumentations as A
import numpy as np
import torch
from albumentations.pytorch import ToTensorV2

from augcam.data.normalize import normalize


def test_it_equals_normalize_and_to_tensor_per_image():
    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    images = np.random.default_rng(1).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    per_image = A.Compose([A.Normalize(mean, std), ToTensorV2()])
    expected = torch.stack([per_image(image=image)["image"] for image in images])
    result = normalize(torch.from_numpy(images), mean, std)
    assert result.dtype == torch.float32
    assert result.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-6)
    given = normalize(torch.from_numpy(images), torch.tensor(mean), torch.tensor(std))
    assert torch.equal(given, result)
