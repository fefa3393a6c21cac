"""Steps of the nets of train-nets.ts in PyTorch: one for each line of input, and its times as a line of JSON.

python3 torch_steps.py codec|resnet-20 THREADS
"""

import json
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F


class Codec(nn.Module):
    """Encoder and decoder of a learned codec, and the loss that weighs distortion against bits."""

    batch = 8

    def __init__(self):
        super().__init__()
        self.encoder = nn.ModuleList(
            [nn.Conv2d(3, 64, 5, 2, 2), nn.Conv2d(64, 48, 5, 2, 2), nn.Conv2d(48, 32, 3, 2, 1)]
        )
        self.decoder = nn.ModuleList(
            [nn.Conv2d(32, 64, 3, 1, 1), nn.Conv2d(64, 64, 3, 1, 1), nn.Conv2d(64, 64, 3, 1, 1)]
        )
        self.mean = nn.Parameter(torch.zeros(1, 32, 1, 1))
        self.scale = nn.Parameter(torch.zeros(1, 32, 1, 1))
        self.x = torch.rand(self.batch, 3, 224, 224) - 0.5
        self.noise = torch.rand(self.batch, 32, 28, 28) - 0.5
        self.features = torch.rand(self.batch, 64, 28, 28) - 0.5

    def forward(self):
        y = F.relu(self.encoder[0](self.x))
        y = F.relu(self.encoder[1](y))
        latent = self.encoder[2](y) + self.noise
        y = F.relu(self.decoder[0](latent))
        y = F.relu(self.decoder[1](y))
        distortion = F.mse_loss(self.decoder[2](y), self.features)
        centred, steepness = latent - self.mean, torch.exp(-self.scale)
        below, above = (torch.sigmoid((centred + offset) * steepness) for offset in (-0.5, 0.5))
        bits = -torch.log2(torch.clamp(above - below, min=1e-9)).sum()
        return distortion + bits * (1e-3 / self.batch)


class Block(nn.Module):
    def __init__(self, channels_in, channels, stride):
        super().__init__()
        self.first = unit(channels_in, channels, 3, stride)
        self.second = unit(channels, channels, 3, 1)
        self.skip = nn.Identity() if stride == 1 else unit(channels_in, channels, 1, stride)

    def forward(self, x):
        return F.relu(self.second(F.relu(self.first(x))) + self.skip(x))


def unit(channels_in, channels, kernel, stride):
    conv = nn.Conv2d(channels_in, channels, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels))


class ResNet20(nn.Module):
    batch = 64

    def __init__(self):
        super().__init__()
        self.stem = unit(3, 16, 3, 1)
        blocks, channels_in = [], 16
        for stage, channels in enumerate([16, 32, 64]):
            for block in range(3):
                blocks.append(Block(channels_in, channels, 2 if stage > 0 and block == 0 else 1))
                channels_in = channels
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(64, 10)
        self.x = torch.rand(self.batch, 3, 32, 32) - 0.5
        self.targets = torch.arange(self.batch) % 10

    def forward(self):
        x = self.blocks(F.relu(self.stem(self.x)))
        return F.cross_entropy(self.head(x.mean(dim=(2, 3))), self.targets)


def main(name, threads):
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    net = {"codec": Codec, "resnet-20": ResNet20}[name]()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, weight_decay=0)
    print(json.dumps({"version": torch.__version__, "batch": net.batch}), flush=True)
    for _ in sys.stdin:
        start, start_cpu = time.perf_counter(), time.process_time()
        optimizer.zero_grad(set_to_none=True)
        loss = net()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 10)
        optimizer.step()
        loss.item()
        total, cpu = time.perf_counter() - start, time.process_time() - start_cpu
        print(json.dumps({"total": total * 1000, "cpu": cpu * 1000}), flush=True)


main(sys.argv[1], int(sys.argv[2]))
