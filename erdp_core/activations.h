// Mish(x) = x tanh(softplus(x)) and ReLU, for loops that the compiler turns into vectors; Mish also for sixteen numbers at
// once where the processor has such, as it divides faster by their reciprocals' guesses than a compiler may.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace {

// Of the best polynomial for (e^r - 1 - r) / r^2 where |r| <= ln(2) / 2, the highest power's first.
constexpr float SERIES[] = {8.3125175e-3f, 4.1890161e-2f, 1.6667114e-1f, 4.9999231e-1f};

// e^x to 2e-7 of itself, for -87 <= x <= 20; e^-87 and e^20 beyond, which does not show in Mish. 2^n e^r with
// |r| <= ln(2) / 2, ln(2) in two parts, e^r by its series.
inline float bounded_exp(float x) {
  x = x < -87.0f ? -87.0f : x;
  x = x > 20.0f ? 20.0f : x;
  const float n = std::nearbyint(x * 1.44269504f);
  const float r = std::fma(n, 2.12194440e-4f, std::fma(n, -0.693359375f, x));
  float series = SERIES[0];
  for (int power = 1; power < 4; ++power) series = std::fma(series, r, SERIES[power]);
  const float power = std::fma(series * r, r, r) + 1.0f;
  const int32_t bits = (int32_t(n == n ? n : 0) + 127) << 23;  // of what is no number the power is none either
  float scale;
  std::memcpy(&scale, &bits, sizeof scale);
  return power * scale;
}

struct Activated {
  float value, slope;
};

inline Activated relu_of(float y) { return {y > 0 ? y : y * 0, y > 0 ? 1.0f : 0.0f}; }  // what is not finite shows

// tanh(softplus(y)) = e^y (e^y + 2) / (e^y (e^y + 2) + 2); its slope is 4 e^y (1 + e^y) over the denominator's square.
// Nothing is squared that is small: numbers near the smallest there are take a processor many times as long.
inline float mish_value(float y) {
  const float exp = bounded_exp(y), numerator = exp * (exp + 2);
  return y * (numerator / (numerator + 2));
}

inline Activated mish_of(float y) {
  const float exp = bounded_exp(y), numerator = exp * (exp + 2), inverse = 1 / (numerator + 2);
  const float tanh = numerator * inverse, rise = 4 * exp * (1 + exp);
  return {y * tanh, tanh + y * rise * (inverse * inverse)};
}

#ifdef __AVX512F__

constexpr int LANES = 16;

inline __m512 all(float x) { return _mm512_set1_ps(x); }

// As above; of a minimum and maximum with what is no number, their second operand is what remains.
inline __m512 bounded_exp(__m512 x) {
  x = _mm512_min_ps(all(20.0f), _mm512_max_ps(all(-87.0f), x));
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, all(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 r = _mm512_fmadd_ps(n, all(2.12194440e-4f), _mm512_fmadd_ps(n, all(-0.693359375f), x));
  __m512 series = all(SERIES[0]);
  for (int power = 1; power < 4; ++power) series = _mm512_fmadd_ps(series, r, all(SERIES[power]));
  const __m512 power = _mm512_add_ps(_mm512_fmadd_ps(_mm512_mul_ps(series, r), r, r), all(1.0f));
  return _mm512_scalef_ps(power, n);
}

// 1 / x to 2^-23 or so: a guess to 2^-14, and one of Newton's steps.
inline __m512 reciprocal(__m512 x) {
  const __m512 guess = _mm512_rcp14_ps(x);
  return _mm512_fmadd_ps(guess, _mm512_fnmadd_ps(x, guess, all(1.0f)), guess);
}

inline __m512 mish_value(__m512 y) {
  const __m512 exp = bounded_exp(y), numerator = _mm512_mul_ps(exp, _mm512_add_ps(exp, all(2.0f)));
  return _mm512_mul_ps(y, _mm512_mul_ps(numerator, reciprocal(_mm512_add_ps(numerator, all(2.0f)))));
}

struct ActivatedLanes {
  __m512 value, slope;
};

inline ActivatedLanes mish_of(__m512 y) {
  const __m512 exp = bounded_exp(y), numerator = _mm512_mul_ps(exp, _mm512_add_ps(exp, all(2.0f)));
  const __m512 inverse = reciprocal(_mm512_add_ps(numerator, all(2.0f))), tanh = _mm512_mul_ps(numerator, inverse);
  const __m512 rise = _mm512_mul_ps(_mm512_mul_ps(all(4.0f), exp), _mm512_add_ps(exp, all(1.0f)));
  const __m512 slope = _mm512_mul_ps(_mm512_mul_ps(y, rise), _mm512_mul_ps(inverse, inverse));
  return {_mm512_mul_ps(y, tanh), _mm512_add_ps(tanh, slope)};
}

#endif

}  // namespace
