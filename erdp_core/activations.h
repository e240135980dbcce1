// Mish(x) = x tanh(softplus(x)) and ReLU, for loops that the compiler turns into vectors.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

// e^x to 1e-7 of itself, for -87 <= x <= 20; e^-87 and e^20 beyond, which does not show in Mish. 2^n e^r with
// |r| <= ln(2) / 2, ln(2) in two parts, e^r as its series with the coefficients of the best polynomial.
inline float bounded_exp(float x) {
  x = x < -87.0f ? -87.0f : x;
  x = x > 20.0f ? 20.0f : x;
  const float n = std::nearbyint(x * 1.44269504f);
  const float r = std::fma(n, 2.12194440e-4f, std::fma(n, -0.693359375f, x));
  float series = 1.9875691500e-4f;
  series = std::fma(series, r, 1.3981999507e-3f);
  series = std::fma(series, r, 8.3334519073e-3f);
  series = std::fma(series, r, 4.1665795894e-2f);
  series = std::fma(series, r, 1.6666665459e-1f);
  series = std::fma(series, r, 5.0000001201e-1f);
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

}  // namespace
