// The passes of fused.py for a CPU: each reads and writes memory once, with all cores that the process has.
//
// Pointers first, then sizes: b x n x h values, rows of h that lie one after the other. Hidden values are float or
// bfloat16 (its upper half), everything else is float; sums are float.

#include <cmath>
#include <cstdint>
#include <cstring>

#include "activations.h"

namespace {

struct bfloat16 {
  uint16_t bits;
};

inline float load(float value) { return value; }

inline float load(bfloat16 value) {
  const uint32_t bits = uint32_t(value.bits) << 16;
  float wide;
  std::memcpy(&wide, &bits, sizeof wide);
  return wide;
}

inline void store(float* to, float value) { *to = value; }

inline void store(bfloat16* to, float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  // To the nearest, to even where two are as near.
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  to->bits = uint16_t(value != value ? 0x7fc0 : rounded);
}

constexpr int64_t FEW = 4096;  // values that other cores are not woken for

template <class T>
void mish_of_sum(T* x, const float* bias, int64_t b, int64_t n, int64_t h) {
#pragma omp parallel for collapse(2) schedule(static) if (b * n * h > FEW)
  for (int64_t i = 0; i < b; ++i)
    for (int64_t j = 0; j < n; ++j) {
      T* row = x + (i * n + j) * h;
      const float* add = bias + i * h;
#pragma omp simd
      for (int64_t k = 0; k < h; ++k) store(row + k, mish_value(load(row[k]) + add[k]));
    }
}

template <class T>
void mish_and_slope(T* x, const float* bias, T* value, int64_t b, int64_t n, int64_t h) {
#pragma omp parallel for collapse(2) schedule(static) if (b * n * h > FEW)
  for (int64_t i = 0; i < b; ++i)
    for (int64_t j = 0; j < n; ++j) {
      T* row = x + (i * n + j) * h;
      T* out = value + (i * n + j) * h;
      const float* add = bias + i * h;
#pragma omp simd
      for (int64_t k = 0; k < h; ++k) {
        const Activated mish = mish_of(load(row[k]) + add[k]);
        store(out + k, mish.value);
        store(row + k, mish.slope);
      }
    }
}

template <class T>
void last_layer(const T* hidden, const float* weight, const float* bias, float* output, int64_t b, int64_t n, int64_t h) {
#pragma omp parallel for collapse(2) schedule(static) if (b * n * h > FEW)
  for (int64_t i = 0; i < b; ++i)
    for (int64_t j = 0; j < n; ++j) {
      const T* row = hidden + (i * n + j) * h;
      const float* by = weight + i * h;
      float sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t k = 0; k < h; ++k) sum += load(row[k]) * by[k];
      output[i * n + j] = sum + bias[i];
    }
}

template <class T>
void last_layer_back(
    const T* slope, const float* of_output, const float* weight, T* of_layer, int64_t b, int64_t n, int64_t h) {
#pragma omp parallel for collapse(2) schedule(static) if (b * n * h > FEW)
  for (int64_t i = 0; i < b; ++i)
    for (int64_t j = 0; j < n; ++j) {
      const T* row = slope + (i * n + j) * h;
      T* out = of_layer + (i * n + j) * h;
      const float* by = weight + i * h;
      const float of_row = of_output[i * n + j];
#pragma omp simd
      for (int64_t k = 0; k < h; ++k) store(out + k, load(row[k]) * (of_row * by[k]));
    }
}

constexpr float BETA_2 = 0.999f, ONE_MINUS_BETA_1 = float(1 - 0.9), ONE_MINUS_BETA_2 = float(1 - 0.999);
constexpr float EPSILON = 1e-8f;

// Adam's new weight; the moments are changed in place.
inline float adam_weight(
    float weight, float* first, float* second, float gradient, float clip, float step_size, float correction) {
  const float clipped = gradient * clip;
  *first += (clipped - *first) * ONE_MINUS_BETA_1;
  *second = *second * BETA_2 + clipped * clipped * ONE_MINUS_BETA_2;
  return weight - step_size * *first / (std::sqrt(*second * correction) + EPSILON);
}

}  // namespace

extern "C" {

void mish_of_sum_float32(float* x, const float* bias, int64_t b, int64_t n, int64_t h) { mish_of_sum(x, bias, b, n, h); }

void mish_of_sum_bfloat16(bfloat16* x, const float* bias, int64_t b, int64_t n, int64_t h) {
  mish_of_sum(x, bias, b, n, h);
}

void mish_and_slope_float32(float* x, const float* bias, float* value, int64_t b, int64_t n, int64_t h) {
  mish_and_slope(x, bias, value, b, n, h);
}

void mish_and_slope_bfloat16(bfloat16* x, const float* bias, bfloat16* value, int64_t b, int64_t n, int64_t h) {
  mish_and_slope(x, bias, value, b, n, h);
}

void last_layer_float32(
    const float* hidden, const float* weight, const float* bias, float* output, int64_t b, int64_t n, int64_t h) {
  last_layer(hidden, weight, bias, output, b, n, h);
}

void last_layer_bfloat16(
    const bfloat16* hidden, const float* weight, const float* bias, float* output, int64_t b, int64_t n, int64_t h) {
  last_layer(hidden, weight, bias, output, b, n, h);
}

void last_layer_back_float32(
    const float* slope, const float* of_output, const float* weight, float* of_layer, int64_t b, int64_t n, int64_t h) {
  last_layer_back(slope, of_output, weight, of_layer, b, n, h);
}

void last_layer_back_bfloat16(
    const bfloat16* slope, const float* of_output, const float* weight, bfloat16* of_layer, int64_t b, int64_t n,
    int64_t h) {
  last_layer_back(slope, of_output, weight, of_layer, b, n, h);
}

void adam_float32(
    float* weights, float* first, float* second, const float* gradient, const float* clip, const float* step_size,
    const float* correction, int64_t p) {
#pragma omp parallel for simd schedule(static) if (p > FEW)
  for (int64_t k = 0; k < p; ++k)
    weights[k] = adam_weight(weights[k], first + k, second + k, gradient[k], *clip, *step_size, *correction);
}

void adam_followed_float32(
    float* follower, const float* tau, float* weights, float* first, float* second, const float* gradient,
    const float* clip, const float* step_size, const float* correction, int64_t p) {
#pragma omp parallel for simd schedule(static) if (p > FEW)
  for (int64_t k = 0; k < p; ++k) {
    const float weight = adam_weight(weights[k], first + k, second + k, gradient[k], *clip, *step_size, *correction);
    weights[k] = weight;
    follower[k] += *tau * (weight - follower[k]);
  }
}

}  // extern "C"
