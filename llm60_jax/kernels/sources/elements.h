// Element-wise pieces of a block: norm, activations, dropout, rotary positions. They compute in float32.
#pragma once

#include "product.h"

namespace llm60 {

// --- Layer norm, eps 1e-5 (model/layers.py) ----------------------------------------------------------

struct Moments {
  F32 mean, inverse;  // the same value in every lane
};

inline Moments moments(const float* x_D, long D) {
  F32 sums[2] = {}, squares[2] = {};
  for (long d = 0; d < D; d += 2 * LANES)
    for (int j = 0; j < 2; j++) {
      const F32 x = read(x_D + d + j * LANES);
      sums[j] += x, squares[j] += x * x;
    }
  const float mean = sum(sums[0] + sums[1]) / D, variance = sum(squares[0] + squares[1]) / D - mean * mean;
  return {splat(mean), splat(1 / std::sqrt((variance > 0 ? variance : 0) + 1e-5f))};
}

// y[n, D] = norm(x) * scale + bias, as a product's operand.
template <class E>
void norm(long n, long D, const float* x_nD, const float* scale_D, const float* bias_D, E* y_nD) {
  for (long i = 0; i < n; i++, x_nD += D, y_nD += D) {
    const Moments m = moments(x_nD, D);
    for (long d = 0; d < D; d += LANES)
      write(y_nD + d, (read(x_nD + d) - m.mean) * m.inverse * read(scale_D + d) + read(bias_D + d));
  }
}

// Add the norm's gradient with respect to x to `stream`, which holds that of the residual beside it.
//   d_y[n, D]: gradient of the norm's result; y[n, D]: that result, computed again.
//   d_scale[D], d_bias[D]: sums over the n rows.
template <class E>
void norm_gradient(long n, long D, const float* x_nD, const float* scale_D, const float* bias_D, const float* d_y_nD,
                   E* y_nD, float* stream_nD, float* d_scale_D, float* d_bias_D) {
  std::memset(d_scale_D, 0, D * sizeof(float));
  std::memset(d_bias_D, 0, D * sizeof(float));
  for (long i = 0; i < n; i++, x_nD += D, d_y_nD += D, y_nD += D, stream_nD += D) {
    const Moments m = moments(x_nD, D);
    F32 sum_d = {}, sum_dn = {};
    for (long d = 0; d < D; d += LANES) {
      const F32 normed = (read(x_nD + d) - m.mean) * m.inverse, d_y = read(d_y_nD + d), scale = read(scale_D + d);
      write(y_nD + d, normed * scale + read(bias_D + d));
      write(d_scale_D + d, read(d_scale_D + d) + d_y * normed);
      write(d_bias_D + d, read(d_bias_D + d) + d_y);
      sum_d += d_y * scale, sum_dn += d_y * scale * normed;
    }
    const F32 mean_d = splat(sum(sum_d) / D), mean_dn = splat(sum(sum_dn) / D);
    for (long d = 0; d < D; d += LANES) {
      const F32 normed = (read(x_nD + d) - m.mean) * m.inverse, d_normed = read(d_y_nD + d) * read(scale_D + d);
      write(stream_nD + d, read(stream_nD + d) + m.inverse * (d_normed - mean_d - normed * mean_dn));
    }
  }
}

// --- Activations ------------------------------------------------------------------------------------

inline F32 sigmoid(F32 x) { return 1.0f / (1.0f + exponential(-x)); }

// GELU in its tanh form: x sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3)).
constexpr float GELU_SLOPE = 1.5957691216057308f;

inline F32 gelu(F32 x) { return x * sigmoid(GELU_SLOPE * x * (1.0f + 0.044715f * x * x)); }

inline void gelu_gradient(F32 x, F32& value, F32& slope) {
  const F32 square = x * x, s = sigmoid(GELU_SLOPE * x * (1.0f + 0.044715f * square));
  value = x * s;
  slope = s + value * (1.0f - s) * (GELU_SLOPE * (1.0f + 3 * 0.044715f * square));
}

// --- Dropout: the hash of model/noise.py -------------------------------------------------------------

struct Dropout {
  uint32_t first, secret;  // of the PRNG key
  uint32_t threshold;      // an element is kept if its bits reach this; 0 keeps all
  float scale;

  // A mask of the elements kept among LANES neighbours, the first with this number in its array.
  I32 kept(uint32_t number) const {
    U32 lanes;
    for (int i = 0; i < LANES; i++) lanes[i] = i;
    U32 bits = (lanes + number) * 0x9E3779B9u + first;
    bits = (bits ^ (bits >> 16)) * 0x21F0AAADu;
    bits = (bits ^ (bits >> 15) ^ secret) * 0x735A2D97u;
    return (bits ^ (bits >> 15)) >= threshold;
  }
};

// --- Columns whose halves belong together ------------------------------------------------------------
//
// RoPE needs both halves of a head, SwiGLU a gate and its value. Such matrices are packed with the halves
// side by side in each panel: its first PANEL / 2 columns come from the lower half of a group of columns,
// the others from the upper half.

constexpr int HALF = TILE_VECTORS / 2;  // vectors of a tile in each half

// The first lower column of a panel, by the panel's first column; `width` is that of a group.
inline long lower_column(long column, long width) { return column / width * width + column % width / 2; }

// Call f(row, lower column, lower sum, upper sum) for each pair of vectors of a tile.
template <int R, class F>
inline void each_pair(long row, long column, long width, F32 (&sums)[R][TILE_VECTORS], const F& f) {
  const long lower = lower_column(column, width);
#pragma GCC unroll 8
  for (int i = 0; i < R; i++)
#pragma GCC unroll 4
    for (int j = 0; j < HALF; j++) f(row + i, lower + j * LANES, sums[i][j], sums[i][j + HALF]);
}

}  // namespace llm60
