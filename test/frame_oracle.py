"""The frame transformer once more, token by token in numpy float64: slow, and independent of the package."""

from __future__ import annotations

import math

import numpy as np


def layer_norm(x):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)


def silu(x):
    return x / (1.0 + np.exp(-x))


def gelu(x):
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


def mlp(state, name, x, activation):
    hidden = activation(x @ state[f"{name}.0.weight"].T + state[f"{name}.0.bias"])
    return hidden @ state[f"{name}.2.weight"].T + state[f"{name}.2.bias"]


def normalized_projection(w2c, K, image_hw):
    """(4, 4) image <- world of one view, K in image sizes with the origin in the image's middle."""
    height, width = image_hw
    lifted = np.eye(4)
    lifted[0, 0], lifted[0, 2] = K[0, 0] / width, K[0, 2] / width - 0.5
    lifted[1, 1], lifted[1, 2] = K[1, 1] / height, K[1, 2] / height - 0.5
    return lifted @ w2c


def token_matrices(P, row, column, d):
    """One token's (d, d) matrices for its query, its key and value, and its output under PRoPE."""
    turn = np.eye(d)
    for start, position in ((d // 2, column), (3 * d // 4, row)):
        m = d // 8
        for k in range(m):
            angle = position * 100.0 ** (-k / m)
            a, b = start + k, start + m + k
            turn[a, a] = turn[b, b] = math.cos(angle)
            turn[a, b], turn[b, a] = math.sin(angle), -math.sin(angle)
    query, key, output = turn.copy(), turn.copy(), turn.T.copy()
    for group in range(d // 8):
        g = slice(4 * group, 4 * group + 4)
        query[g, g], key[g, g], output[g, g] = P.T, np.linalg.inv(P), P
    return query, key, output


def attend(q, k, v, matrices, mask):
    """One head: q, k, v (N, d), matrices of every token, mask[i, j] = token i sees token j. Returns (N, d)."""
    d = q.shape[1]
    q = np.stack([T[0] @ x for T, x in zip(matrices, q, strict=True)])
    k = np.stack([T[1] @ x for T, x in zip(matrices, k, strict=True)])
    v = np.stack([T[1] @ x for T, x in zip(matrices, v, strict=True)])
    weights = np.where(mask, np.exp(q @ k.T / math.sqrt(d)), 0.0)
    o = weights @ v / weights.sum(1, keepdims=True)
    return np.stack([T[2] @ x for T, x in zip(matrices, o, strict=True)])


def position(config, row, column, rows, columns):
    """(D,) of a token at a place in the merged canvas of rows x columns."""
    quarter = config.hidden_size // 4
    frequencies = 10000.0 ** (-np.arange(quarter) / quarter)
    x = column * config.base_size / (columns * config.interpolation) * frequencies
    y = row * config.base_size / (rows * config.interpolation) * frequencies
    return np.concatenate([np.sin(x), np.cos(x), np.sin(y), np.cos(y)])


def time_embedding(state, t):
    frequencies = np.exp(-math.log(1e4) * np.arange(128) / 128)
    return mlp(state, "time_embed", np.concatenate([np.cos(t * frequencies), np.sin(t * frequencies)]), silu)


def camera_features(state, config, cameras, view, row, column, grid):
    """(D,) that the camera encoding adds to a token. cameras: w2c (V, 4, 4), K (V, 3, 3), image_hw."""
    w2c, K, (height, width) = cameras
    if config.camera_encoding == "plucker":
        pixel = [(column + 0.5) * width / grid[1], (row + 0.5) * height / grid[0], 1.0]
        T_world_camera = np.linalg.inv(w2c[view])
        d = T_world_camera[:3, :3] @ np.linalg.inv(K[view]) @ pixel
        d /= np.linalg.norm(d)
        numbers = np.concatenate([np.cross(T_world_camera[:3, 3], d), d])
    elif config.camera_encoding == "parametric":
        T = w2c[-1] @ np.linalg.inv(w2c[view])
        (fx, _, cx), (_, fy, cy), _ = K[view]
        lens = [fx / width, fy / height, cx / width - 0.5, cy / height - 0.5]
        numbers = np.concatenate([T[:3, :3].reshape(-1), T[:3, 3], lens])
    else:
        return 0.0
    return mlp(state, "camera_encoder.projector", numbers, silu)


def who_sees_whom(config, view_of):
    """(N, N) bool. Views are 0 = target, then the drawing, last the reference."""
    if config.attention == "full":
        return np.ones((len(view_of), len(view_of)), bool)
    return view_of[:, None] <= view_of[None, :]  # the reference itself, the drawing also the reference, the target all


def transform(state, config, t, latents, cameras):
    """The target's output (C', h, w) for latents of every view (V, C, h, w); all tokens in one pass under a mask."""
    p, D, heads = config.patch_size, config.hidden_size, config.heads
    rows, columns = latents.shape[2] // p, latents.shape[3] // p
    tokens = [(view, row, column) for view in range(len(latents)) for row in range(rows) for column in range(columns)]
    x = np.zeros((len(tokens), D))
    for i, (view, row, column) in enumerate(tokens):
        patch = latents[view, :, p * row:p * row + p, p * column:p * column + p]
        x[i] = np.tensordot(state["patch_embed.weight"], patch, 3) + state["patch_embed.bias"]
        x[i] += position(config, row, view * columns + column, rows, columns * len(latents))
        x[i] += camera_features(state, config, cameras, view, row, column, (rows, columns)) if cameras else 0.0

    view_of = np.array([view for view, _, _ in tokens])
    mask = who_sees_whom(config, view_of)
    condition_t = config.condition_timestep if config.attention == "cached" else t
    embedding = np.stack([time_embedding(state, t if view == 0 else condition_t) for view in view_of])
    common = silu(embedding) @ state["time_modulation.weight"].T + state["time_modulation.bias"]
    if config.camera_encoding == "prope":
        P = [normalized_projection(*camera, cameras[2]) for camera in zip(*cameras[:2], strict=True)]
        matrices = [token_matrices(P[view], row, column, D // heads) for view, row, column in tokens]
    else:
        matrices = [(np.eye(D // heads),) * 3] * len(tokens)

    for i in range(config.depth):
        block = {name.removeprefix(f"blocks.{i}."): value for name, value in state.items()}
        modulation = common.reshape(-1, 6, D) + block["scale_shift_table"]
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation.transpose(1, 0, 2)
        qkv = (layer_norm(x) * (1 + scale1) + shift1) @ block["attention.qkv.weight"].T + block["attention.qkv.bias"]
        q, k, v = qkv.reshape(len(tokens), 3, heads, -1).transpose(1, 2, 0, 3)
        o = np.concatenate([attend(q[h], k[h], v[h], matrices, mask) for h in range(heads)], axis=1)
        x = x + gate1 * (o @ block["attention.proj.weight"].T + block["attention.proj.bias"])
        x = x + gate2 * mlp(block, "mlp", layer_norm(x) * (1 + scale2) + shift2, gelu)

    shift, scale = state["final.scale_shift_table"][:, None] + embedding
    patches = (layer_norm(x) * (1 + scale) + shift) @ state["final.linear.weight"].T + state["final.linear.bias"]
    output = np.zeros((patches.shape[1] // p**2, p * rows, p * columns))
    for (view, row, column), patch in zip(tokens, patches, strict=True):
        if view == 0:
            output[:, p * row:p * row + p, p * column:p * column + p] = patch.reshape(p, p, -1).transpose(2, 0, 1)
    return output
