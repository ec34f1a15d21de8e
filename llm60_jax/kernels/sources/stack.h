// A stack of blocks (model/layers.py), forward and backward.
//
// Work is divided into strips of tokens where rows are independent, and into heads in attention. The
// gradients of weights are products over all tokens, divided into rows of the weight. Sums over tokens are
// formed strip by strip, in order, so no result depends on the number of threads.
//
// Shapes: L blocks, B sequences, T positions, N = B T tokens, M = N rounded up to BLOCK, D width, H heads,
// F MLP width, U columns of the up-projection (F, or 2 F with a gate), S strips.
#pragma once

#include "attention.h"

namespace llm60 {

constexpr long STRIP = 64;  // tokens

struct Sizes {
  long L, B, T, D, H, F;
  bool gated;  // SwiGLU instead of GELU
  long N() const { return B * T; }
  long M() const { return round_up(N(), BLOCK); }
  long U() const { return gated ? 2 * F : F; }
  long K() const { return D / H; }
  long P() const { return round_up(T, BLOCK); }
  long strips() const { return (N() + STRIP - 1) / STRIP; }
};

// A matrix of every block, [depth, columns], packed as right operands of products.
struct Packed {
  const uint32_t* panels;
  long depth, columns;
  template <class E, class Out>
  void multiply(Worker& worker, long block, long rows, const E* left, const Out& out) const {
    product(worker, rows, columns, depth, left, depth, panels + block * depth * columns / GROUP<E>,
            depth / GROUP<E> * PANEL, out);
  }
};

struct Weights {
  Packed qkv, out, up, down;
};

struct Norms {
  const float *attention_scale_LD, *attention_bias_LD, *mlp_scale_LD, *mlp_bias_LD;
};

// What one block computes on the way and its backward pass needs.
template <class E>
struct Between {
  E* qkv_N3D;
  E* o_ND;
  float* logs_BHT;
  float* middle_ND;
  E* up_NU;  // may be null in a pass that keeps nothing
};

template <class E>
struct Stack {
  Sizes n;
  Norms norms;
  const float *cos_TK, *sin_TK;  // [T, K / 2]
  const int32_t* segments_BT;
  const uint32_t* dropout_L2;  // `first` and `secret` of each block
  uint32_t dropout_threshold;
  float dropout_scale;
  long dropout_width;  // of the MLP before it was padded to F

  Dropout dropout(long l) const {
    return {dropout_L2[2 * l], dropout_L2[2 * l + 1], dropout_threshold, dropout_scale};
  }

  // --- Forward, block by block ---------------------------------------------------------------------

  // qkv = rotated norm(x) W_qkv
  void project(Team& team, const Weights& w, long l, const float* x_ND, E* qkv_N3D) const {
    strips(team, [&](long first, long rows, Worker& worker) {
      E* h = worker.take<E>(rows * n.D);
      norm(rows, n.D, x_ND + first * n.D, norms.attention_scale_LD + l * n.D, norms.attention_bias_LD + l * n.D, h);
      w.qkv.multiply(worker, l, rows, h, [&](long row, long column, auto& sums) {
        const bool rotated = column < 2 * n.D;
        each_pair(row, column, n.K(), sums, [&](long i, long c, F32 low, F32 high) {
          E* place = qkv_N3D + (first + i) * 3 * n.D + c;
          if (rotated) rotate((first + i) % n.T, c % n.K(), low, high, 1);
          write(place, low), write(place + n.K() / 2, high);
        });
      });
    });
  }

  void attend(Team& team, const Between<E>& b) const {
    const Array<int32_t> segments = padded_segments();
    team.run(n.B * n.H, [&](long task, Worker& worker) {
      const long row = task / n.H * n.T, head = task % n.H * n.K();
      const E* q = b.qkv_N3D + row * 3 * n.D + head;
      llm60::attend(worker, heads(segments, task), q, q + n.D, q + 2 * n.D, b.o_ND + row * n.D + head, n.D,
                    b.logs_BHT + task * n.T);
    });
  }

  // middle = x + o W_out, then y = middle + act(norm(middle) W_up) W_down. Without y, stop at the up-projection.
  void finish(Team& team, const Weights& w, long l, const float* x_ND, const Between<E>& b, float* y_ND) const {
    const Dropout drop = dropout(l);
    strips(team, [&](long first, long rows, Worker& worker) {
      float* middle = b.middle_ND + first * n.D;
      const auto added_to = [&](const float* x) {
        return [=](long i, long d, F32 branch) { return read(x + i * n.D + d) + branch; };
      };
      w.out.multiply(worker, l, rows, b.o_ND + first * n.D, to(middle, n.D, added_to(x_ND + first * n.D)));
      E* h = worker.take<E>(rows * n.D);
      E* g = worker.take<E>(rows * n.F);
      norm(rows, n.D, middle, norms.mlp_scale_LD + l * n.D, norms.mlp_bias_LD + l * n.D, h);
      w.up.multiply(worker, l, rows, h, [&](long row, long column, auto& sums) {
        I32 lost = {};
        const auto put = [&](long i, long f, F32 value) {
          if (drop.threshold) {
            const I32 kept = drop.kept((uint32_t)((first + i) * dropout_width + f));
            const F32 before = value;
            value = kept ? value * drop.scale : F32{};
            lost += (value == 0.0f) & (before != 0.0f);
          }
          write(g + i * n.F + f, value);
        };
        if (n.gated) {
          each_pair(row, column, n.U(), sums, [&](long i, long f, F32 gate, F32 value) {
            if (b.up_NU) write(b.up_NU + (first + i) * n.U() + f, gate);
            if (b.up_NU) write(b.up_NU + (first + i) * n.U() + n.F + f, value);
            gate = rounded<E>(gate);
            if (y_ND) put(i, f, gate * sigmoid(gate) * rounded<E>(value));
          });
        } else {
          each(row, column, sums, [&](long i, long f, F32 x) {
            if (b.up_NU) write(b.up_NU + (first + i) * n.U() + f, x);
            if (y_ND) put(i, f, gelu(rounded<E>(x)));
          });
        }
        worker.counts.dropped += count(lost);
      });
      if (!y_ND) return;
      w.down.multiply(worker, l, rows, g, to(y_ND + first * n.D, n.D, added_to(middle)));
    });
  }

  // --- Backward, block by block --------------------------------------------------------------------

  // Left operands [rows, M] and panels of right operands of the products that give the weights' gradients.
  struct Operands {
    explicit Operands(const Sizes& n)
        : h_DM(n.D * n.M()), o_DM(n.D * n.M()), h2_DM(n.D * n.M()), g_FM(n.F * n.M()),
          d_qkv(3 * n.D * n.M() / GROUP<E>), d_out(n.D * n.M() / GROUP<E>), d_up(n.U() * n.M() / GROUP<E>),
          d_down(n.D * n.M() / GROUP<E>), d_o_ND(n.N() * n.D), d_qkv_N3D(n.N() * 3 * n.D),
          d_attention_norm_S2D(n.strips() * 2 * n.D), d_mlp_norm_S2D(n.strips() * 2 * n.D) {}
    Array<E> h_DM, o_DM, h2_DM, g_FM;
    Array<uint32_t> d_qkv, d_out, d_up, d_down;
    Array<E> d_o_ND, d_qkv_N3D;
    Array<float> d_attention_norm_S2D, d_mlp_norm_S2D;  // scale, bias of each strip
  };

  // Sums over micro-batches, to which this one's are added.
  struct Gradients {
    float *attention_scale_LD, *attention_bias_LD, *qkv_LD3D, *out_LDD;
    float *mlp_scale_LD, *mlp_bias_LD, *up_LDU, *down_LFD;
  };

  // From the gradient of the block's result in d_ND to that of `middle`, in place, and d_o.
  //   w: the transposed weights.
  void finish_gradient(Team& team, const Weights& w, long l, const Between<E>& b, float* d_ND, Operands& put) const {
    const Dropout drop = dropout(l);
    strips(team, [&](long first, long rows, Worker& worker) {
      const long even = round_up(rows, BLOCK), D = n.D, F = n.F, U = n.U();
      float* d = d_ND + first * D;
      E* d_y = zeros(worker, rows, D);
      E* d_up = zeros(worker, rows, U);
      E* g = zeros(worker, rows, F);
      E* h = zeros(worker, rows, D);
      float* d_h = worker.take<float>(rows * D);
      for (long i = 0; i < rows * D; i += LANES) write(d_y + i, read(d + i));
      w.down.multiply(worker, l, rows, d_y, [&](long row, long column, auto& sums) {
        I32 lost = {};
        each(row, column, sums, [&](long i, long f, F32 d_g) {
          const E* up = b.up_NU + (first + i) * U + f;
          I32 kept = {};
          if (drop.threshold) kept = drop.kept((uint32_t)((first + i) * dropout_width + f));
          if (drop.threshold) d_g = kept ? d_g * drop.scale : F32{};
          F32 value, slope;
          if (n.gated) {
            const F32 gate = read(up), factor = read(up + F), s = sigmoid(gate), silu = gate * s;
            value = silu * factor;
            write(d_up + i * U + F + f, d_g * silu);
            slope = factor * (s + silu * (1.0f - s));
          } else {
            gelu_gradient(read(up), value, slope);
          }
          write(d_up + i * U + f, d_g * slope);
          if (drop.threshold) {
            const F32 before = value;
            value = kept ? value * drop.scale : F32{};
            lost += (value == 0.0f) & (before != 0.0f);
          }
          write(g + i * F + f, value);
        });
        worker.counts.dropped += count(lost);
      });
      w.up.multiply(worker, l, rows, d_up, to(d_h, D));
      norm_gradient(rows, D, b.middle_ND + first * D, norms.mlp_scale_LD + l * D, norms.mlp_bias_LD + l * D, d_h, h, d,
                    put.d_mlp_norm_S2D + first / STRIP * 2 * D, put.d_mlp_norm_S2D + (first / STRIP * 2 + 1) * D);
      left_operand(g, F, even, F, first, put.g_FM);
      left_operand(h, D, even, D, first, put.h2_DM);
      right_operand(d_y, D, even, first, put.d_down);
      right_operand(d_up, U, even, first, put.d_up);
      for (long i = 0; i < rows * D; i += LANES) write(d_y + i, read(d + i));
      w.out.multiply(worker, l, rows, d_y, to(put.d_o_ND + first * D, D));
      long stride = D;
      const E* o = padded(worker, b.o_ND + first * D, stride, rows, D);
      left_operand(o, stride, even, D, first, put.o_DM);
      right_operand(d_y, D, even, first, put.d_out);
    });
  }

  void attend_gradient(Team& team, const Between<E>& b, Operands& put) const {
    const Array<int32_t> segments = padded_segments();
    team.run(n.B * n.H, [&](long task, Worker& worker) {
      const long row = task / n.H * n.T, head = task % n.H * n.K(), D = n.D, K = n.K();
      const E* q = b.qkv_N3D + row * 3 * D + head;
      E* d_q = put.d_qkv_N3D + row * 3 * D + head;
      float* turned_q = worker.take<float>(n.T * K);
      float* turned_k = worker.take<float>(n.T * K);
      llm60::attend_gradient(worker, heads(segments, task), q, q + D, q + 2 * D, b.o_ND + row * D + head,
                             put.d_o_ND + row * D + head, D, b.logs_BHT + task * n.T, turned_q, turned_k, d_q + 2 * D,
                             3 * D);
      for (long t = 0; t < n.T; t++)
        for (long c = 0; c < K / 2; c += LANES)
          for (const bool key : {false, true}) {
            const float* turned = (key ? turned_k : turned_q) + t * K + c;
            F32 low = read(turned), high = read(turned + K / 2);
            rotate(t, c, low, high, -1);
            E* place = d_q + t * 3 * D + (key ? D : 0) + c;
            write(place, low), write(place + K / 2, high);
          }
    });
  }

  // From the gradients of qkv and of the residual stream in d_ND to that of the block's input, in place.
  void project_gradient(Team& team, const Weights& w, long l, const float* x_ND, float* d_ND, Operands& put) const {
    strips(team, [&](long first, long rows, Worker& worker) {
      const long even = round_up(rows, BLOCK), D = n.D;
      float* d_h = worker.take<float>(rows * D);
      E* h = zeros(worker, rows, D);
      const E* d_qkv = put.d_qkv_N3D + first * 3 * D;
      w.qkv.multiply(worker, l, rows, d_qkv, to(d_h, D));
      norm_gradient(rows, D, x_ND + first * D, norms.attention_scale_LD + l * D, norms.attention_bias_LD + l * D, d_h,
                    h, d_ND + first * D, put.d_attention_norm_S2D + first / STRIP * 2 * D,
                    put.d_attention_norm_S2D + (first / STRIP * 2 + 1) * D);
      left_operand(h, D, even, D, first, put.h_DM);
      long stride = 3 * D;
      d_qkv = padded(worker, d_qkv, stride, rows, 3 * D);
      right_operand(d_qkv, 3 * D, even, first, put.d_qkv);
    });
  }

  // Add the gradients of a block's matrices and norms.
  void weight_gradients(Team& team, long l, const Operands& from, const Gradients& sums) const {
    const long D = n.D, F = n.F, U = n.U();
    struct Product {
      const E* left;
      const uint32_t* right;
      float* out;
      long rows, columns;
    };
    const Product all[] = {
        {from.h_DM, from.d_qkv, sums.qkv_LD3D + l * D * 3 * D, D, 3 * D},
        {from.h2_DM, from.d_up, sums.up_LDU + l * D * U, D, U},
        {from.o_DM, from.d_out, sums.out_LDD + l * D * D, D, D},
        {from.g_FM, from.d_down, sums.down_LFD + l * F * D, F, D},
    };
    team.run((3 * D + F) / BLOCK, [&](long task, Worker& worker) {
      const Product* p = all;
      long row = task * BLOCK;
      for (; row >= p->rows; p++) row -= p->rows;
      float* out = p->out + row * p->columns;
      product(worker, BLOCK, p->columns, n.M(), p->left + row * n.M(), n.M(), p->right, n.M() / GROUP<E> * PANEL,
              to(out, p->columns, [=](long i, long c, F32 x) { return read(out + i * p->columns + c) + x; }));
    });
    add_strips(from.d_attention_norm_S2D, sums.attention_scale_LD + l * D, sums.attention_bias_LD + l * D);
    add_strips(from.d_mlp_norm_S2D, sums.mlp_scale_LD + l * D, sums.mlp_bias_LD + l * D);
  }

 private:
  template <class F>
  void strips(Team& team, const F& f) const {
    team.run(n.strips(), [&](long strip, Worker& worker) {
      const long first = strip * STRIP;
      f(first, n.N() - first < STRIP ? n.N() - first : STRIP, worker);
    });
  }

  // Rotate columns c and c + K / 2 of a head by the angle of a position, or back.
  void rotate(long position, long c, F32& low, F32& high, float direction) const {
    const F32 cosine = read(cos_TK + position * n.K() / 2 + c);
    const F32 sine = read(sin_TK + position * n.K() / 2 + c) * direction;
    const F32 old = low;
    low = old * cosine - high * sine;
    high = high * cosine + old * sine;
  }

  Array<int32_t> padded_segments() const {
    Array<int32_t> segments(n.B * n.P());
    for (long b = 0; b < n.B; b++) {
      std::memcpy(segments + b * n.P(), segments_BT + b * n.T, n.T * sizeof(int32_t));
      for (long t = n.T; t < n.P(); t++) segments[b * n.P() + t] = INT32_MIN;
    }
    return segments;
  }

  Heads heads(const int32_t* segments, long task) const {
    return {n.T, n.K(), 3 * n.D, segments + task / n.H * n.P()};
  }

  // [rows, width] to be written, with rows of zeros up to a multiple of BLOCK.
  static E* zeros(Worker& worker, long rows, long width) {
    E* x = worker.take<E>(round_up(rows, BLOCK) * width);
    std::memset(x + rows * width, 0, (round_up(rows, BLOCK) - rows) * width * sizeof(E));
    return x;
  }

  void left_operand(const E* x, long stride, long tokens, long width, long first, E* to) const {
    transpose_to<E>(x, stride, tokens, width, to + first, n.M());
  }
  void right_operand(const E* x, long width, long tokens, long first, uint32_t* to) const {
    panels_of<E>(x, width, tokens, width, to + first / GROUP<E> * PANEL, n.M() / GROUP<E> * PANEL);
  }

  void add_strips(const float* parts_S2D, float* scale_D, float* bias_D) const {
    for (long s = 0; s < n.strips(); s++, parts_S2D += 2 * n.D)
      for (long d = 0; d < n.D; d++) scale_D[d] += parts_S2D[d], bias_D[d] += parts_S2D[n.D + d];
  }
};

// --- Whole stacks -----------------------------------------------------------------------------------

// What the forward pass keeps of every block. A null is computed again in the backward pass.
template <class E>
struct Kept {
  float* x_LND;  // inputs of all blocks but the first, [L - 1, N, D]
  E* qkv_LN3D;
  E* o_LND;
  float* logs_LBHT;
  float* middle_LND;
  E* up_LNU;
};

// One block's part of what is kept, scratch memory for the rest.
template <class E>
class Places {
 public:
  Places(const Sizes& n, const Kept<E>& kept, bool needs_up)
      : n_(n), kept_(kept), qkv_(kept.qkv_LN3D ? 0 : n.N() * 3 * n.D), o_(kept.o_LND ? 0 : n.N() * n.D),
        logs_(kept.logs_LBHT ? 0 : n.N() * n.H), middle_(kept.middle_LND ? 0 : n.N() * n.D),
        up_(kept.up_LNU || !needs_up ? 0 : n.N() * n.U()), needs_up_(needs_up) {}
  Between<E> operator[](long l) const {
    const auto place = [l](auto* all, auto* scratch, long size) { return all ? all + l * size : scratch; };
    const long N = n_.N(), D = n_.D;
    return {place(kept_.qkv_LN3D, (E*)qkv_, N * 3 * D), place(kept_.o_LND, (E*)o_, N * D),
            place(kept_.logs_LBHT, (float*)logs_, N * n_.H), place(kept_.middle_LND, (float*)middle_, N * D),
            place(kept_.up_LNU, needs_up_ ? (E*)up_ : nullptr, N * n_.U())};
  }

 private:
  const Sizes n_;
  const Kept<E> kept_;
  Array<E> qkv_, o_;
  Array<float> logs_, middle_;
  Array<E> up_;
  const bool needs_up_;
};

// y[N, D]; `kept.x_LND` null: nothing is kept.
template <class E>
void stack_forward(Team& team, const Stack<E>& stack, const Weights& w, const float* x_ND, const Kept<E>& kept,
                   float* y_ND) {
  const Sizes& n = stack.n;
  const Places<E> places(n, kept, false);
  const float* x = x_ND;
  for (long l = 0; l < n.L; l++) {
    float* y = l + 1 < n.L && kept.x_LND ? kept.x_LND + l * n.N() * n.D : y_ND;
    const Between<E> between = places[l];
    stack.project(team, w, l, x, between.qkv_N3D);
    stack.attend(team, between);
    stack.finish(team, w, l, x, between, y);
    x = y;
  }
}

// d_ND holds the gradient of y, then that of x.
//   w: weights; transposed: their transposes.
template <class E>
void stack_backward(Team& team, const Stack<E>& stack, const Weights& w, const Weights& transposed, const float* x_ND,
                    const Kept<E>& kept, float* d_ND, const typename Stack<E>::Gradients& gradients) {
  const Sizes& n = stack.n;
  const Places<E> places(n, kept, true);
  typename Stack<E>::Operands operands(n);
  for (long l = n.L - 1; l >= 0; l--) {
    const Between<E> between = places[l];
    const float* x = l ? kept.x_LND + (l - 1) * n.N() * n.D : x_ND;
    if (!kept.qkv_LN3D) stack.project(team, w, l, x, between.qkv_N3D);
    if (!kept.o_LND) stack.attend(team, between);
    if (!kept.up_LNU) stack.finish(team, w, l, x, between, nullptr);
    stack.finish_gradient(team, transposed, l, between, d_ND, operands);
    stack.attend_gradient(team, between, operands);
    stack.project_gradient(team, transposed, l, x, d_ND, operands);
    stack.weight_gradients(team, l, operands, gradients);
  }
}

}  // namespace llm60
