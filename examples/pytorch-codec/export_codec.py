#!/usr/bin/env python3
"""Trains a small codec in PyTorch and writes it as Isthmus imports it: encoder.onnx and decoder.onnx.

  python3 export_codec.py BUNDLE --features features.npy --from 2 --out codec
  python3 export_codec.py BUNDLE --images photos --out codec          # at cut 0

The encoder halves the size of a feature map a few times and gives a latent with few channels; the decoder makes the map
of it again. Between them lies what quantizing will do: noise as wide as a step, drawn anew for every batch, with the
decoder told which (Ballé, Laparra, Simoncelli, arXiv 1611.01704, for the noise). So one set of weights serves all rates.
"""

import argparse
import json
import pathlib

import numpy
import torch
from torch import nn

# The quantizer's steps, from near-lossless to rough. `isthmus codec import` must be given the same.
STEPS = [0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0]


class Encoder(nn.Module):
    def __init__(self, channels, latent_channels, width, halvings, scale):
        super().__init__()
        self.scale = scale
        layers = []
        for index in range(halvings):
            layers += [nn.Conv2d(channels if index == 0 else width, width, 5, stride=2, padding=2), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width if halvings else channels, latent_channels, 1))

    def forward(self, x):
        # The input is some real features; scaled, so that every model's are of about the same size.
        return self.layers(x * self.scale)


class Decoder(nn.Module):
    def __init__(self, channels, latent_channels, width, halvings, scale):
        super().__init__()
        self.scale = scale
        self.first = nn.Conv2d(latent_channels, width, 1)
        # The level shifts the features a little: a decoder does better if it knows how much noise there is.
        self.told = nn.Linear(1, width)
        layers = []
        for _ in range(halvings):
            layers += [nn.ReLU(), nn.ConvTranspose2d(width, width, 4, stride=2, padding=1)]
        self.layers = nn.Sequential(*layers, nn.ReLU(), nn.Conv2d(width, channels, 3, padding=1))

    def forward(self, latent, level):
        x = self.first(latent) + self.told(level.reshape(1, 1)).reshape(1, -1, 1, 1)
        return self.layers(x) / self.scale


def read_pictures(folder, preprocess, limit):
    """Pictures as cut 0 takes them: resized to cover, cropped, normalized."""
    from PIL import Image

    width, height = preprocess["width"], preprocess["height"]
    mean = numpy.array(preprocess["mean"], dtype=numpy.float32)
    std = numpy.array(preprocess["std"], dtype=numpy.float32)
    paths = [p for p in sorted(pathlib.Path(folder).rglob("*")) if p.suffix.lower() in (".jpg", ".jpeg", ".png")]
    chosen = [paths[i * len(paths) // min(limit, len(paths))] for i in range(min(limit, len(paths)))]
    frames = []
    for path in chosen:
        picture = Image.open(path).convert("RGB")
        factor = max(width / picture.width, height / picture.height)
        picture = picture.resize((round(picture.width * factor), round(picture.height * factor)))
        left, top = (picture.width - width) // 2, (picture.height - height) // 2
        pixels = numpy.asarray(picture.crop((left, top, left + width, top + height)), dtype=numpy.float32)
        if preprocess["colorOrder"] == "bgr":
            pixels = pixels[:, :, ::-1]
        frames.append(((pixels - mean) / std).transpose(2, 0, 1))
    return torch.from_numpy(numpy.stack(frames).astype(numpy.float32))


def train(encoder, decoder, frames, num_steps, batch_size):
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=3e-3)
    power = frames.pow(2).mean()
    for step in range(num_steps):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * (1 - step / num_steps)
        batch = frames[torch.randint(len(frames), (batch_size,))]
        index = int(torch.randint(len(STEPS), (1,)))
        latent = encoder(batch)
        noise = (torch.rand_like(latent) - 0.5) * STEPS[index]
        level = torch.tensor([index / (len(STEPS) - 1)])
        distortion = (decoder(latent + noise, level) - batch).pow(2).mean() / power
        # Nearly the bits of a Laplacian at that step. It is what keeps the latent from growing without bounds.
        rate = torch.log2(1 + latent.abs() / STEPS[index]).mean()
        loss = distortion + 0.005 * (index + 1) / len(STEPS) * rate
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 0 or step == num_steps - 1:
            print(f"step {step}: distortion {distortion.item():.4f} at step {STEPS[index]}, rate {rate.item():.3f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", help="a folder that isthmus split wrote")
    parser.add_argument("--from", dest="cut", type=int, default=0, help="the cut, of one tensor [1, C, H, W]")
    parser.add_argument("--images", help="pictures to train on, at cut 0")
    parser.add_argument("--features", help=".npy with the cut's tensor of many frames, [N, C, H, W]")
    parser.add_argument("--limit", type=int, default=200, help="at most so many frames")
    parser.add_argument("--latent-channels", type=int, default=24)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--halvings", type=int, default=3, help="how often the map's edges are halved")
    parser.add_argument("--steps", type=int, default=400, help="of training")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--out", default="codec")
    options = parser.parse_args()

    manifest = json.loads((pathlib.Path(options.bundle) / "manifest.json").read_text())
    tensors = manifest["cuts"][options.cut]["tensors"]
    if len(tensors) != 1 or len(tensors[0]["shape"]) != 4:
        parser.error(f"cut {options.cut} is not one tensor [1, C, H, W]")
    name, (_, channels, height, width) = tensors[0]["name"], tensors[0]["shape"]
    if height % 2**options.halvings or width % 2**options.halvings:
        parser.error(f"{height} × {width} cannot be halved {options.halvings} times; say --halvings")
    if options.features:
        frames = torch.from_numpy(numpy.load(options.features).astype(numpy.float32))[: options.limit]
    elif options.images and options.cut == 0:
        frames = read_pictures(options.images, manifest["preprocess"], options.limit)
    else:
        parser.error("say --features, or --images at cut 0")
    if tuple(frames.shape[1:]) != (channels, height, width):
        parser.error(f"the frames are {tuple(frames.shape)}, cut {options.cut} is {(1, channels, height, width)}")

    torch.manual_seed(1)
    scale = 1 / frames.pow(2).mean().sqrt().item()
    sizes = (channels, options.latent_channels, options.width, options.halvings, scale)
    encoder, decoder = Encoder(*sizes), Decoder(*sizes)
    train(encoder, decoder, frames, options.steps, options.batch)

    out = pathlib.Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    frame = frames[:1]
    encoder.eval(), decoder.eval()
    # Names are what the import goes by: the cut's tensors, `latent` and `level`.
    torch.onnx.export(
        encoder, frame, str(out / "encoder.onnx"), input_names=[name], output_names=["latent"], opset_version=13
    )
    torch.onnx.export(
        decoder,
        (encoder(frame), torch.zeros(1)),
        str(out / "decoder.onnx"),
        input_names=["latent", "level"],
        output_names=[name],
        opset_version=13,
    )
    steps = ",".join(str(step) for step in STEPS)
    print(f"Written to {out}. Import it with pictures it was not trained on:")
    print(
        f"isthmus codec import {options.bundle} --encoder {out}/encoder.onnx --decoder {out}/decoder.onnx "
        f"--from {options.cut} --steps {steps} --images PHOTOS"
    )


if __name__ == "__main__":
    main()
