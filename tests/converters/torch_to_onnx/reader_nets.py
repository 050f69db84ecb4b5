"""Small networks that are awkward to read, as users write them."""

import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(channels, momentum=0.3)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.act(self.bn(self.conv(x))) + x


class Tangle(nn.Module):
    """Containers, a module called twice, tied and frozen weights, buffers, dropouts, a dict as result."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 4, 3)
        self.layers = nn.Sequential(Block(4), nn.Sequential(Block(4)))
        self.blocks = nn.ModuleList([Block(4)])
        self.drop = nn.Dropout(0.3)
        self.fc = nn.Linear(4, 5)
        self.fc2 = nn.Linear(5, 5)
        self.fc3 = nn.Linear(5, 5)
        self.fc3.weight = self.fc2.weight
        self.fc.weight.requires_grad = False
        self.register_buffer("scale", torch.full((5,), 2.0))
        self.register_buffer("shift", torch.arange(5.0), persistent=False)
        self.gain = nn.Parameter(torch.ones(5))
        self.unused = nn.Linear(3, 3)

    def forward(self, image):
        x = self.layers(self.stem(image))
        for block in self.blocks:
            x = block(x)
        x = self.blocks[0](x)
        x = x.mean((2, 3))
        x = self.fc2(self.drop(self.fc(x)))
        x = self.fc3(F.dropout(x, 0.25, self.training)) * self.scale * self.gain
        x = x * torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]) + self.shift
        return {"logits": x.relu_(), "sum": x.sum(1)}


class Scripted(nn.Module):
    """Control flow, lists, a method, a tuple with a dict: what scripting allows and tracing does not."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(Block(4), Block(4))
        self.more = nn.ModuleList([Block(4), Block(4)])
        self.drop = nn.Dropout(0.3)
        self.fc = nn.Linear(4, 3)
        self.rounds = 3

    def tail(self, x):
        for block in self.more:
            x = block(x)
        return x

    def forward(self, x, double: bool = True):
        x = self.tail(self.layers(x))
        if double and x.size(1) > 3:
            x = F.dropout(x, 0.1, self.training)
        for i in range(self.rounds):
            x = x * 0.5 + i
        x = x.mean([2, 3])
        stages = [x, x + 1]
        stages.append(x)
        total = torch.stack(stages).sum(0).view(x.shape[0], -1)
        return torch.relu_(self.drop(self.fc(total))), {"mean": x}


class Clashes(nn.Module):
    """Parameters called like an input and like an operator; results of every kind."""

    def __init__(self):
        super().__init__()
        self.x = nn.Parameter(torch.full((3,), 2.0))
        self.mul = nn.Parameter(torch.full((3,), 3.0))

    def forward(self, x, pair):
        y = x * self.x * self.mul + pair["right"]
        return [y, pair["left"], None, 3, (y, self.x)]


class FixedBatch(nn.Module):
    def forward(self, x):
        return x.view(4, -1) * 2


class Branches(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return x * 2
        return x


class Counts(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x):
        self.calls.add_(1)
        return x + self.calls


class Unsupported(nn.Module):
    def forward(self, x):
        return torch.linalg.svd(x)[1] + torch.special.bessel_j0(x[:, :, 0])


class Channels(nn.Module):
    def __init__(self):
        super().__init__()
        self.bn = nn.BatchNorm1d(6)
        self.spatial = nn.Dropout1d(0.2)
        self.drop = nn.Dropout(0.1)

    def forward(self, x):
        return self.drop(self.bn(self.spatial(x)))


def tangle():
    return Tangle()


def wrong():
    return 3


def broken(size):
    return nn.Linear(size, 1)


linear = nn.Linear(2, 1)
