// Causal attention inside the documents of one row, one head at a time.
//
// Queries, or in the backward pass keys, go in blocks of BLOCK; each block meets only what the causal mask
// lets it see. The forward pass keeps the log of each softmax's denominator (Dao et al. 2022).
//
// Shapes: T positions, P = T rounded up to BLOCK, K head width.
#pragma once

#include "elements.h"

namespace llm60 {

struct Heads {
  long T, K, stride;          // stride: elements from one position to the next in q, k, v
  const int32_t* segments_P;  // document of each position; positions beyond T have one of their own
  float scale() const { return 1 / std::sqrt((float)K); }
};

constexpr float MASKED = -1e30f;

// Positions `first` to `first + LANES` that belong to the document of `position`.
inline I32 same_document(const int32_t* segments_P, long position, long first) {
  return load<I32>(segments_P + first) == (I32)splat((uint32_t)segments_P[position]);
}
inline I32 lanes_from(long first) {
  I32 lanes;
  for (int i = 0; i < LANES; i++) lanes[i] = i;
  return lanes + (int32_t)first;
}
// Keys `first` and on that a query sees; queries `first` and on that see a key.
inline I32 seen_keys(const int32_t* segments_P, long query, long first) {
  return same_document(segments_P, query, first) & (lanes_from(first) <= (int32_t)query);
}
inline I32 seeing_queries(const int32_t* segments_P, long key, long first) {
  return same_document(segments_P, key, first) & (lanes_from(first) >= (int32_t)key);
}

// o[T, K] (its rows `o_stride` apart) and logs[T] of one head.
template <class E>
void attend(Worker& worker, const Heads& heads, const E* q, const E* k, const E* v, E* o, long o_stride,
            float* logs_T) {
  const long T = heads.T, K = heads.K, P = round_up(T, BLOCK);
  long k_stride = heads.stride, v_stride = heads.stride;
  k = padded(worker, k, k_stride, T, K), v = padded(worker, v, v_stride, T, K);
  uint32_t* keys = worker.take<uint32_t>(P * K / GROUP<E>);
  uint32_t* values = worker.take<uint32_t>(P * K / GROUP<E>);
  panels_of_transpose(k, k_stride, K, P, keys, K / GROUP<E> * PANEL);
  panels_of<E>(v, v_stride, P, K, values, P / GROUP<E> * PANEL);
  float* scores = worker.take<float>(BLOCK * P);
  E* weights = worker.take<E>(BLOCK * P);
  const float scale = heads.scale();
  float inverse[BLOCK];
  for (long start = 0; start < T; start += BLOCK) {
    const long rows = T - start < BLOCK ? T - start : BLOCK, see = start + BLOCK;
    product(worker, rows, see, K, q + start * heads.stride, heads.stride, keys, K / GROUP<E> * PANEL,
            to(scores, P, [=](long, long, F32 x) { return x * scale; }));
    I32 allowed = {};
    for (long i = 0; i < rows; i++) {
      float* x = scores + i * P;
      F32 top = splat(MASKED), total = {};
      for (long s = 0; s < see; s += LANES) {
        const I32 seen = seen_keys(heads.segments_P, start + i, s);
        const F32 score = seen ? read(x + s) : splat(MASKED);
        write(x + s, score);
        top = largest(top, score), allowed += seen;
      }
      top = splat(largest(top));
      for (long s = 0; s < see; s += LANES) {
        const F32 score = read(x + s), weight = score > MASKED ? exponential(score - top) : score - score;
        write(weights + i * P + s, weight);
        total += weight;
      }
      const float denominator = sum(total);
      inverse[i] = 1 / denominator;
      logs_T[start + i] = top[0] + std::log(denominator);
    }
    worker.counts.pairs += count(allowed);
    product(worker, rows, K, see, weights, P, values, P / GROUP<E> * PANEL,
            to(o + start * o_stride, o_stride, [&](long i, long, F32 x) { return x * inverse[i]; }));
  }
}

// Gradients of one head: d_q[T, K], d_k[T, K] in float32, and d_v (rows d_v_stride apart).
//   o, d_o: the head's output and its gradient, rows o_stride apart.
template <class E>
void attend_gradient(Worker& worker, const Heads& heads, const E* q, const E* k, const E* v, const E* o,
                     const E* d_o, long o_stride, const float* logs_T, float* d_q_TK, float* d_k_TK, E* d_v,
                     long d_v_stride) {
  const long T = heads.T, K = heads.K, P = round_up(T, BLOCK), size = P * K / GROUP<E>;
  const long narrow = K / GROUP<E> * PANEL, tall = P / GROUP<E> * PANEL;  // units of a panel, depth K and P
  float* logs = worker.take<float>(P);
  float* slopes = worker.take<float>(P);  // the sum of o d_o of each position
  for (long t = 0; t < P; t++) {
    F32 slope = {};
    for (long d = 0; t < T && d < K; d += LANES) slope += read(o + t * o_stride + d) * read(d_o + t * o_stride + d);
    slopes[t] = sum(slope), logs[t] = t < T ? logs_T[t] : 0;
  }
  long q_stride = heads.stride, k_stride = heads.stride, d_o_stride = o_stride;
  q = padded(worker, q, q_stride, T, K), k = padded(worker, k, k_stride, T, K);
  d_o = padded(worker, d_o, d_o_stride, T, K);
  uint32_t* panels[5];
  for (uint32_t*& panel : panels) panel = worker.take<uint32_t>(size);
  auto [q_transposed, d_o_transposed, queries, d_outputs, keys] = panels;
  panels_of_transpose(q, q_stride, K, P, q_transposed, narrow);
  panels_of_transpose(d_o, d_o_stride, K, P, d_o_transposed, narrow);
  panels_of<E>(q, q_stride, P, K, queries, tall);
  panels_of<E>(d_o, d_o_stride, P, K, d_outputs, tall);
  panels_of<E>(k, k_stride, P, K, keys, tall);
  float* scores = worker.take<float>(BLOCK * P);
  float* d_weights = worker.take<float>(BLOCK * P);
  E* weights = worker.take<E>(BLOCK * P);
  E* d_scores = worker.take<E>(BLOCK * P);
  E* d_scores_PP = worker.take<E>(P * P);  // queries x keys
  const float scale = heads.scale();
  const auto scaled = [=](long, long, F32 x) { return x * scale; };
  for (long start = 0; start < T; start += BLOCK) {  // keys
    const long rows = T - start < BLOCK ? T - start : BLOCK, see = P - start;
    const long from = start / PANEL * narrow, below = start / GROUP<E> * PANEL;
    product(worker, rows, see, K, k + start * k_stride, k_stride, q_transposed + from, narrow,
            to(scores, see));
    product(worker, rows, see, K, v + start * heads.stride, heads.stride, d_o_transposed + from, narrow,
            to(d_weights, see));
    I32 allowed = {};
    for (long i = 0; i < BLOCK; i++)
      for (long t = 0; t < see; t += LANES) {
        const long place = i * see + t;
        if (i >= rows) {
          write(d_scores + place, F32{});
          continue;
        }
        const I32 seeing = seeing_queries(heads.segments_P, start + i, start + t);
        allowed += seeing;
        const F32 log = read(logs + start + t), slope = read(slopes + start + t);
        const F32 weight = rounded<E>(seeing ? exponential(read(scores + place) * scale - log) : F32{});
        write(weights + place, weight);
        write(d_scores + place, weight * (read(d_weights + place) - slope));
      }
    worker.counts.pairs += count(allowed);
    product(worker, rows, K, see, weights, see, d_outputs + below, tall, to(d_v + start * d_v_stride, d_v_stride));
    product(worker, rows, K, see, d_scores, see, queries + below, tall, to(d_k_TK + start * K, K, scaled));
    transpose_to<E>(d_scores, see, BLOCK, see, d_scores_PP + start * P + start, P);
  }
  for (long start = 0; start < T; start += BLOCK) {  // queries
    const long rows = T - start < BLOCK ? T - start : BLOCK;
    product(worker, rows, K, start + BLOCK, d_scores_PP + start * P, P, keys, tall, to(d_q_TK + start * K, K, scaled));
  }
}

}  // namespace llm60
