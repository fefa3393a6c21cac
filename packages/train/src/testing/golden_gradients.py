"""Records the gradients that PyTorch gives of a tiny net, for golden-gradients.json.

Run with PyTorch 1.13 or later:  python3 golden_gradients.py > golden-gradients.json
"""
import json

import torch
import torch.nn.functional as F

torch.manual_seed(1)
torch.set_num_threads(1)
# In float64, so that what is recorded is exact to float32's last digit. Inputs are float32 values.
draw = lambda *shape: (torch.rand(*shape) * 2 - 1).double()

inputs = {'x': draw(2, 3, 7, 6)}
parameters = {
    'stem.weight': draw(4, 3, 3, 3) * 0.6,
    'stem.bias': draw(4),
    'bn.scale': draw(4) + 1.5,
    'bn.bias': draw(4),
    'depthwise.weight': draw(4, 1, 3, 3),
    'up.weight': draw(4, 3, 4, 4) * 0.5,
    'group.scale': draw(3) + 1.5,
    'group.bias': draw(3),
    'head.weight': draw(3, 5),
}
parameters = {name: value.float().double().requires_grad_() for name, value in parameters.items()}
inputs = {name: value.float().double().requires_grad_() for name, value in inputs.items()}
p = parameters

y = F.conv2d(inputs['x'], p['stem.weight'], p['stem.bias'], stride=2, padding=1)
y = F.batch_norm(y, None, None, p['bn.scale'], p['bn.bias'], training=True, eps=1e-5)
y = F.hardswish(y)
skip = y
y = F.gelu(F.conv2d(y, p['depthwise.weight'], padding=1, groups=4)) + skip
y = F.max_pool2d(F.pad(y, (1, 1, 0, 1), mode='reflect'), 3, stride=2, padding=1)
y = F.conv_transpose2d(y, p['up.weight'], stride=2, padding=1)
y = F.instance_norm(y, weight=p['group.scale'], bias=p['group.bias'], eps=1e-5)
y = F.interpolate(F.leaky_relu(y, 0.1), scale_factor=2, mode='bilinear', align_corners=False)
y = F.avg_pool2d(y, 3, stride=2, padding=1, count_include_pad=False)
y = torch.linalg.norm(y, dim=(2, 3)) @ p['head.weight']
loss = F.cross_entropy(y, torch.tensor([1, 4])) + y.pow(2).mean()
loss.backward()

tensors = {**inputs, **parameters}
record = lambda tensor: [float(f'{value:.9g}') for value in tensor.flatten().tolist()]
print(
    json.dumps(
        {
            'torch': torch.__version__,
            'loss': loss.item(),
            'tensors': {
                name: {
                    'shape': list(value.shape),
                    'values': record(value.detach()),
                    'gradient': record(value.grad),
                }
                for name, value in tensors.items()
            },
        }
    )
)
