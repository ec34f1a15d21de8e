// One token of each row through a stack, with cached keys and values, in float32. Memory sets the pace:
// every weight is read once, in order.
//
// Shapes: B rows, S positions of the caches, D width, H heads, K head width, F MLP width, U its up-projection.
#pragma once

#include "stack.h"

namespace llm60 {

struct Matrices {
  const float *qkv_LD3D, *out_LDD, *up_LDU, *down_LFD;
};

constexpr int WRITTEN_ROWS = 4;  // of x at a time, whose sums stay in registers

// Fetch what is read soon after w, and used once.
inline void fetch(const float* w) { __builtin_prefetch(w + 2048, 0, 0); }

class Writing {
 public:
  Writing(Team& team, const Sizes& n, long S, const Norms& norms, const Matrices& w, const float* cos_K,
          const float* sin_K)
      : team_(team), n_(n), S_(S), norms_(norms), w_(w), cos_K_(cos_K), sin_K_(sin_K),
        parts_(PARTS * n.B * widest()), in_(n.B * widest()), out_(n.B * widest()) {}

  // Advance x[B, D], in place, and write this position's keys and values into the caches [L, B, H, S, K].
  void run(float* x_BD, float* keys, float* values, long position) {
    for (long l = 0; l < n_.L; l++) {
      norm(n_.B, n_.D, x_BD, norms_.attention_scale_LD + l * n_.D, norms_.attention_bias_LD + l * n_.D, (float*)in_);
      multiply(in_, n_.D, 3 * n_.D, w_.qkv_LD3D + l * n_.D * 3 * n_.D);
      team_.run(n_.B * n_.H, [&](long task, Worker& worker) {
        const long place = (l * n_.B * n_.H + task) * S_ * n_.K();
        attend(task, worker, keys + place, values + place, position);
      });
      multiply(in_, n_.D, n_.D, w_.out_LDD + l * n_.D * n_.D);
      add(x_BD);
      norm(n_.B, n_.D, x_BD, norms_.mlp_scale_LD + l * n_.D, norms_.mlp_bias_LD + l * n_.D, (float*)in_);
      multiply(in_, n_.D, n_.U(), w_.up_LDU + l * n_.D * n_.U());
      activate();
      multiply(in_, n_.F, n_.D, w_.down_LFD + l * n_.F * n_.D);
      add(x_BD);
    }
  }

 private:
  static constexpr long PARTS = 8;  // of a matrix's rows, each summed on its own
  static constexpr long DEEP = 8;  // rows of a matrix that are read side by side
  long widest() const { return 3 * n_.D > n_.U() ? 3 * n_.D : n_.U(); }

  // out[B, columns] = x[B, depth] w[depth, columns]
  void multiply(const float* x, long depth, long columns, const float* w) {
    team_.run(PARTS, [&](long part, Worker& worker) {
      const long first = depth * part / PARTS, last = depth * (part + 1) / PARTS;
      float* y = parts_ + part * n_.B * columns;
      std::memset(y, 0, n_.B * columns * sizeof(float));
      worker.counts.operations += 2 * n_.B * (last - first) * columns;
      for (long k = first; k < last; k += DEEP) {
        const long deep = last - k < DEEP ? last - k : DEEP;
        for (long c = 0; c < columns; c += LANES) {
          const float *from = x + k, *weights = w + k * columns + c;
          long b = 0;
          for (; b + WRITTEN_ROWS <= n_.B; b += WRITTEN_ROWS)
            add_products<WRITTEN_ROWS>(from + b * depth, depth, deep, weights, columns, y + b * columns + c);
          for (; b < n_.B; b++) add_products<1>(from + b * depth, depth, deep, weights, columns, y + b * columns + c);
        }
      }
    });
    for (long i = 0; i < n_.B * columns; i += LANES) {
      F32 sum = read(parts_ + i);
      for (long part = 1; part < PARTS; part++) sum += read(parts_ + part * n_.B * columns + i);
      write(out_ + i, sum);
    }
  }

  // y[rows, LANES] += x[rows, deep] w[deep, LANES]; each sum in the order of w's rows
  template <int R>
  static void add_products(const float* x, long x_stride, long deep, const float* w, long columns, float* y) {
    F32 sums[R];
    for (int r = 0; r < R; r++) sums[r] = read(y + r * columns);
    for (long k = 0; k < deep; k++) {
      const F32 weights = read(w + k * columns);
      fetch(w + k * columns);
      for (int r = 0; r < R; r++) sums[r] += weights * x[r * x_stride + k];
    }
    for (int r = 0; r < R; r++) write(y + r * columns, sums[r]);
  }

  void add(float* x_BD) {
    for (long i = 0; i < n_.B * n_.D; i += LANES) write(x_BD + i, read(x_BD + i) + read(out_ + i));
  }

  void activate() {
    for (long b = 0; b < n_.B; b++)
      for (long f = 0; f < n_.F; f += LANES) {
        const F32 x = read(out_ + b * n_.U() + f);
        write(in_ + b * n_.F + f, n_.gated ? x * sigmoid(x) * read(out_ + b * n_.U() + n_.F + f) : gelu(x));
      }
  }

  void attend(long task, Worker& worker, float* keys_SK, float* values_SK, long position) {
    const long K = n_.K(), head = task % n_.H * K, b = task / n_.H;
    const float* qkv = out_ + b * 3 * n_.D + head;
    float* q = worker.take<float>(K);
    float* weights = worker.take<float>(round_up(position + 1, LANES));
    for (long c = 0; c < K / 2; c += LANES) {
      turn(c, qkv + c, q + c);
      turn(c, qkv + n_.D + c, keys_SK + position * K + c);
    }
    std::memcpy(values_SK + position * K, qkv + 2 * n_.D, K * sizeof(float));
    const float scale = 1 / std::sqrt((float)K);
    float top = MASKED, total = 0;
    for (long s = 0; s <= position; s++) {
      F32 score = {};
      for (long c = 0; c < K; c += LANES) score += read(q + c) * read(keys_SK + s * K + c);
      weights[s] = sum(score) * scale;
      top = weights[s] > top ? weights[s] : top;
    }
    for (long s = position + 1; s < round_up(position + 1, LANES); s++) weights[s] = MASKED;
    for (long s = 0; s <= position; s += LANES) write(weights + s, exponential(read(weights + s) - top));
    for (long s = 0; s <= position; s++) total += weights[s];
    float* o = in_ + b * n_.D + head;
    for (long c = 0; c < K; c += LANES) {
      F32 mixed = {};
      for (long s = 0; s <= position; s++) mixed += read(values_SK + s * K + c) * weights[s];
      write(o + c, mixed / total);
    }
  }

  // Rotate columns c and c + K / 2 of a head.
  void turn(long c, const float* from, float* to) const {
    const long half = n_.K() / 2;
    const F32 low = read(from), high = read(from + half), cosine = read(cos_K_ + c), sine = read(sin_K_ + c);
    write(to, low * cosine - high * sine), write(to + half, high * cosine + low * sine);
  }

  Team& team_;
  const Sizes n_;
  const long S_;
  const Norms norms_;
  const Matrices w_;
  const float *cos_K_, *sin_K_;  // of this position, [K / 2]
  Array<float> parts_, in_, out_;
};

// logits[rows, 1] of one token: x[rows, D] row[D]
template <int R>
void token_logits(long D, long V, const float* x, const float* row, float* logits) {
  F32 totals[R] = {};
  for (long c = 0; c < D; c += LANES) {
    const F32 weights = read(row + c);
    fetch(row + c);
    for (int r = 0; r < R; r++) totals[r] += read(x + r * D + c) * weights;
  }
  for (int r = 0; r < R; r++) logits[r * V] = sum(totals[r]);
}

// logits[B, V] = x[B, D] table[V, D]^T
inline void logits(Team& team, long B, long D, long V, const float* x_BD, const float* table_VD, float* logits_BV) {
  const long tasks = 64;
  team.run(tasks, [&](long task, Worker& worker) {
    const long first = V * task / tasks, last = V * (task + 1) / tasks;
    worker.counts.operations += 2 * B * D * (last - first);
    for (long v = first; v < last; v++) {
      long b = 0;
      for (; b + WRITTEN_ROWS <= B; b += WRITTEN_ROWS)
        token_logits<WRITTEN_ROWS>(D, V, x_BD + b * D, table_VD + v * D, logits_BV + b * V + v);
      for (; b < B; b++) token_logits<1>(D, V, x_BD + b * D, table_VD + v * D, logits_BV + b * V + v);
    }
  });
}

}  // namespace llm60
