"""Attention and mixing over tokens."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scripts.proof.pairs.torch_models.registry import torch_model


class SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int, *, causal: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(x).reshape(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.proj(y.transpose(1, 2).reshape(batch, length, width))


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int, heads: int, *, causal: bool = False) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads, causal=causal)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.fc1 = nn.Linear(width, 2 * width)
        self.fc2 = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


@torch_model("transformer_block")
def transformer_block() -> nn.Module:
    return Block(16, 4)


@torch_model("attention_pooling")
class AttentionPooling(nn.Module):
    """A learned query weighs the steps of a sequence of any length."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(12))
        self.key = nn.Linear(12, 12)
        self.value = nn.Linear(12, 12)
        self.out = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        scores = torch.matmul(torch.tanh(self.key(x)), self.query) / math.sqrt(12.0)
        weights = torch.softmax(scores, dim=1)
        return self.out((weights[:, :, None] * self.value(x)).sum(1))


@torch_model("causal_decoder")
class CausalDecoder(nn.Module):
    """Token and position embeddings, two causal blocks, and the token embedding again as the head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(40, 16)
        self.position = nn.Parameter(torch.randn(9, 16) * 0.3)
        self.blocks = nn.Sequential(Block(16, 2, causal=True), Block(16, 2, causal=True))
        self.norm = nn.LayerNorm(16)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.norm(self.blocks(self.embed(tokens) + self.position))
        return F.linear(x, self.embed.weight)


@torch_model("einsum_mixer")
class EinsumMixer(nn.Module):
    """Mixing of tokens and of channels, written with einsum."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(12)
        self.tokens_in = nn.Parameter(torch.randn(8, 20) / math.sqrt(8))
        self.tokens_out = nn.Parameter(torch.randn(20, 8) / math.sqrt(20))
        self.norm2 = nn.LayerNorm(12)
        self.channels = nn.Parameter(torch.randn(3, 12, 4) / math.sqrt(12))

    def forward(self, x: Tensor) -> Tensor:
        y = F.gelu(torch.einsum("btc,ts->bcs", self.norm1(x), self.tokens_in))
        x = x + torch.einsum("bcs,st->btc", y, self.tokens_out)
        return torch.einsum("btc,hcd->bhtd", self.norm2(x), self.channels)
