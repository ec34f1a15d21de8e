// The tied head with its loss (model/losses.py): logits, softmax and both gradients.
//
// The vocabulary goes in slices. Each keeps its exponentials relative to its own largest logit; what
// relates the slices to one another becomes a factor of a token and a slice, which the gradients' products
// apply. So no logit is stored beyond its slice, and none is exponentiated twice.
//
// Shapes: N tokens, D width, V vocabulary rounded up to BLOCK, W columns of a slice.
#pragma once

#include "stack.h"

namespace llm60 {

struct Vocabulary {
  long V, size;  // size: the pieces that exist; logits beyond do not count
  long W() const { return V >= 16 * 512 ? 512 : round_up((V + 15) / 16, BLOCK); }
  long slices() const { return (V + W() - 1) / W(); }
  long first(long slice) const { return slice * W(); }
  long columns(long slice) const { return V - first(slice) < W() ? V - first(slice) : W(); }
};

struct HeadInputs {
  const float* hidden_ND;
  const float* table_VD;
  const uint32_t* by_piece;  // panels of the table's transpose [D, V]: for the logits
  const uint32_t* by_width;  // panels of the table [V, D]: for the gradient of `hidden`; null without it
  const int32_t* targets_N;
  const float* weights_N;
};

struct HeadOutputs {
  float* losses_N;  // negative log-likelihoods, nats
  float* d_hidden_ND;  // of the sum of weight times loss; null where not asked for
  float* d_table_VD;
};

constexpr long HEAD_TOKENS = 1024;  // tokens whose exponentials exist at the same time

template <class E>
class HeadRound {
 public:
  HeadRound(long N, long D, const Vocabulary& v, const HeadInputs& in, const HeadOutputs& out, bool adds)
      : N_(N), D_(D), v_(v), in_(in), out_(out), adds_(adds), hidden_ND_(N * D),
        weights_(is_training() ? N * v.V : 0), tops_(v.slices() * M()), sums_(v.slices() * M()),
        chosen_N_(M()) {}

  void run(Team& team) {
    team.run((N_ + STRIP - 1) / STRIP, [&](long strip, Worker&) {
      for (long i = strip * STRIP * D_; i < end_of(strip) * D_; i += LANES)
        write(hidden_ND_ + i, read(in_.hidden_ND + i));
    });
    team.run(v_.slices(), [&](long slice, Worker& worker) { exponentials(slice, worker); });
    team.run(M() / BLOCK, [&](long block, Worker&) { losses(block * BLOCK); });
    if (out_.d_hidden_ND)
      team.run((N_ + STRIP - 1) / STRIP, [&](long strip, Worker& worker) { hidden_gradient(strip, worker); });
    if (out_.d_table_VD)
      team.run(v_.slices(), [&](long slice, Worker& worker) { table_gradient(slice, worker); });
  }

 private:
  bool is_training() const { return out_.d_hidden_ND || out_.d_table_VD; }
  long M() const { return round_up(N_, BLOCK); }
  long end_of(long strip) const { return (strip + 1) * STRIP < N_ ? (strip + 1) * STRIP : N_; }
  E* weights(long slice) const { return weights_ + v_.first(slice) * N_; }  // [N, columns of the slice]

  // A slice's exponentials, its largest logit and their sum for each token.
  void exponentials(long slice, Worker& worker) {
    const long first = v_.first(slice), W = v_.columns(slice);
    const long exist = v_.size - first < W ? v_.size - first : W;
    float* logits = worker.take<float>(STRIP * W);
    for (long start = 0; start < N_; start += STRIP) {
      const long rows = N_ - start < STRIP ? N_ - start : STRIP;
      product(worker, rows, W, D_, hidden_ND_ + start * D_, D_, in_.by_piece + first * D_ / GROUP<E>,
              D_ / GROUP<E> * PANEL, to(logits, W));
      for (long i = 0; i < rows; i++) {
        float* x = logits + i * W;
        const long n = start + i, target = in_.targets_N[n] - first;
        if (target >= 0 && target < exist) chosen_N_[n] = x[target];
        for (long c = exist; c < W; c++) x[c] = MASKED;
        F32 top = splat(MASKED), total = {};
        for (long c = 0; c < W; c += LANES) top = largest(read(x + c), top);
        top = splat(largest(top));
        for (long c = 0; c < W; c += LANES) {
          const F32 logit = read(x + c), weight = logit > MASKED ? exponential(logit - top) : logit - logit;
          if (is_training()) write(weights(slice) + n * W + c, weight);
          total += weight;
        }
        tops_[slice * M() + n] = top[0];
        sums_[slice * M() + n] = sum(total);
      }
    }
  }

  // Losses of BLOCK tokens; `tops_` becomes the factor of each token and slice.
  void losses(long start) {
    const long count = N_ - start < BLOCK ? N_ - start : BLOCK;
    for (long i = 0; i < count; i++) {
      const long n = start + i, step = M();
      float top = MASKED, total = 0;
      for (long s = 0; s < v_.slices(); s++) top = tops_[s * step + n] > top ? tops_[s * step + n] : top;
      for (long s = 0; s < v_.slices(); s++) {
        float& factor = tops_[s * step + n];
        factor = std::exp(factor - top);
        total += sums_[s * step + n] * factor;
      }
      out_.losses_N[n] = top + std::log(total) - chosen_N_[n];
      const float scale = in_.weights_N[n] / total;
      for (long s = 0; s < v_.slices(); s++) tops_[s * step + n] *= scale;
    }
  }

  void hidden_gradient(long strip, Worker& worker) {
    const long start = strip * STRIP, rows = end_of(strip) - start;
    float* d = out_.d_hidden_ND + start * D_;
    for (long i = 0; i < rows; i++) {
      const F32 weight = splat(-in_.weights_N[start + i]);
      const float* row = in_.table_VD + in_.targets_N[start + i] * D_;
      for (long c = 0; c < D_; c += LANES) write(d + i * D_ + c, weight * rounded<E>(read(row + c)));
    }
    for (long slice = 0; slice < v_.slices(); slice++) {
      const long W = v_.columns(slice);
      const float* factors = tops_ + slice * M() + start;
      product(worker, rows, D_, W, weights(slice) + start * W, W, in_.by_width + v_.first(slice) / GROUP<E> * PANEL,
              v_.V / GROUP<E> * PANEL,
              to(d, D_, [=](long i, long c, F32 x) { return read(d + i * D_ + c) + x * factors[i]; }));
    }
  }

  void table_gradient(long slice, Worker& worker) {
    const long first = v_.first(slice), W = v_.columns(slice), M = this->M();
    float* scaled = worker.take<float>(2 * D_);
    uint32_t* right = worker.take<uint32_t>(M * D_ / GROUP<E>);
    for (long n = 0; n < M; n += GROUP<E>) {  // the hidden states, each times its factor
      for (int i = 0; i < GROUP<E>; i++) {
        const float factor = n + i < N_ ? tops_[slice * M + n + i] : 0;
        for (long c = 0; c < D_; c += LANES)
          write(scaled + i * D_ + c, n + i < N_ ? read(in_.hidden_ND + (n + i) * D_ + c) * factor : F32{});
      }
      panels_of<E>(scaled, D_, GROUP<E>, D_, right + n / GROUP<E> * PANEL, M / GROUP<E> * PANEL);
    }
    long stride = W;
    const E* w = padded(worker, weights(slice), stride, N_, W);
    E* left = worker.take<E>(BLOCK * M);
    for (long row = 0; row < W; row += BLOCK) {
      transpose_to<E>(w + row, stride, M, BLOCK, left, M);
      float* out = out_.d_table_VD + (first + row) * D_;
      product(worker, BLOCK, D_, M, left, M, right, M / GROUP<E> * PANEL,
              to(out, D_, [&](long i, long c, F32 x) { return adds_ ? read(out + i * D_ + c) + x : x; }));
    }
    for (long n = 0; n < N_; n++) {
      const long target = in_.targets_N[n] - first;
      if (target < 0 || target >= W) continue;
      float* out = out_.d_table_VD + (first + target) * D_;
      for (long c = 0; c < D_; c += LANES)
        write(out + c, read(out + c) - in_.weights_N[n] * rounded<E>(read(in_.hidden_ND + n * D_ + c)));
    }
  }

  const long N_, D_;
  const Vocabulary v_;
  const HeadInputs in_;
  const HeadOutputs out_;
  const bool adds_;  // to the table's gradient of earlier rounds
  Array<E> hidden_ND_, weights_;
  Array<float> tops_, sums_, chosen_N_;
};

template <class E>
void head(Team& team, long N, long D, const Vocabulary& v, HeadInputs in, HeadOutputs out) {
  for (long start = 0; start < N; start += HEAD_TOKENS) {
    const long rows = N - start < HEAD_TOKENS ? N - start : HEAD_TOKENS;
    HeadRound<E>(rows, D, v, in, out, start > 0).run(team);
    in.hidden_ND += rows * D, in.targets_N += rows, in.weights_N += rows;
    out.losses_N += rows;
    if (out.d_hidden_ND) out.d_hidden_ND += rows * D;
  }
}

}  // namespace llm60
