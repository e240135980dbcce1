// Networks gone through as a whole: a core takes some rows of one network through all of its layers, and back, so
// that what lies between two layers stays in that core's cache. Products are those of the library torch multiplies with.
//
// All numbers are float, rows lie one after the other. A network has `count` products; sizes[0] are its inputs, sizes[l + 1]
// what product l gives; hidden layers have one width, and Mish or, where `relu` is not 0, ReLU. tensors[2 l] is weight l [sizes[l], sizes[l + 1]], tensors[2 l + 1] its bias. Of N networks those of
// a run follow one another, and have the run's inputs; N = runs x members.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "activations.h"

namespace {

using Sgemm = void (*)(
    const char*, const char*, const int*, const int*, const int*, const float*, const float*, const int*, const float*,
    const int*, const float*, float*, const int*);
using SetThreads = int (*)(int);

Sgemm sgemm = nullptr;
SetThreads set_threads = nullptr;

constexpr int ROWS = 128;  // that go through together: their values and slopes fit a core's cache
constexpr int ALIGNMENT = 64;

// out [m, n] = a [m, k] b [k, n] + keep * out; rows of a and out lie `lda` and `n` apart.
void product(const float* a, int lda, const float* b, float* out, int m, int k, int n, float keep) {
  const float one = 1;
  sgemm("N", "N", &n, &m, &k, &one, b, &n, a, &lda, &keep, out, &n);
}

// out [m, n] = a [m, k] b' for b [n, k].
void product_with_transposed(const float* a, const float* b, float* out, int m, int k, int n) {
  const float one = 1, keep = 0;
  sgemm("T", "N", &n, &m, &k, &one, b, &k, a, &k, &keep, out, &n);
}

// out [m, n] = a' b + keep * out for a [k, m] and b [k, n].
void product_of_transposed(const float* a, const float* b, float* out, int m, int k, int n, float keep) {
  const float one = 1;
  sgemm("N", "T", &n, &m, &k, &one, b, &n, a, &m, &keep, out, &n);
}

struct Free {
  void operator()(float* memory) const { std::free(memory); }
};

// A core's memory, kept from call to call.
float* workspace(int64_t floats) {
  thread_local std::unique_ptr<float, Free> memory;
  thread_local int64_t held = 0;
  if (held < floats) {
    const size_t bytes = (floats * sizeof(float) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    memory.reset(static_cast<float*>(std::aligned_alloc(ALIGNMENT, bytes)));
    if (!memory) std::abort();  // there is no way back from within a parallel loop
    held = floats;
  }
  return memory.get();
}

struct Network {
  const int32_t* sizes;
  int count;
  bool relu;
  const float* const* tensors;

  int hidden() const { return count - 1; }
  int width() const { return sizes[1]; }
  int outputs() const { return sizes[count]; }
  const float* weight(int l) const { return tensors[2 * l]; }
  const float* bias(int l) const { return tensors[2 * l + 1]; }
};

// x = activation(x + bias), x [rows, h].
void activate(bool relu, float* x, const float* bias, int rows, int h) {
  for (int i = 0; i < rows; ++i) {
    float* row = x + int64_t(i) * h;
    if (relu) {
#pragma omp simd
      for (int k = 0; k < h; ++k) row[k] = relu_of(row[k] + bias[k]).value;
    } else {
      int done = 0;
#ifdef __AVX512F__
      for (; done + LANES <= h; done += LANES) {
        const __m512 sum = _mm512_add_ps(_mm512_loadu_ps(row + done), _mm512_loadu_ps(bias + done));
        _mm512_storeu_ps(row + done, mish_value(sum));
      }
#endif
#pragma omp simd
      for (int k = done; k < h; ++k) row[k] = mish_value(row[k] + bias[k]);
    }
  }
}

// value = activation(x + bias), slope = its slope there, x being where the values go.
void activate_with_slope(bool relu, float* value, float* slope, const float* bias, int rows, int h) {
  for (int i = 0; i < rows; ++i) {
    float *row = value + int64_t(i) * h, *out = slope + int64_t(i) * h;
    if (relu) {
#pragma omp simd
      for (int k = 0; k < h; ++k) {
        const Activated found = relu_of(row[k] + bias[k]);
        row[k] = found.value;
        out[k] = found.slope;
      }
    } else {
      int done = 0;
#ifdef __AVX512F__
      for (; done + LANES <= h; done += LANES) {
        const __m512 sum = _mm512_add_ps(_mm512_loadu_ps(row + done), _mm512_loadu_ps(bias + done));
        const ActivatedLanes found = mish_of(sum);
        _mm512_storeu_ps(row + done, found.value);
        _mm512_storeu_ps(out + done, found.slope);
      }
#endif
#pragma omp simd
      for (int k = done; k < h; ++k) {
        const Activated found = mish_of(row[k] + bias[k]);
        row[k] = found.value;
        out[k] = found.slope;
      }
    }
  }
}

// The last product and its bias, out [rows, outputs].
void last_product(const Network& net, const float* values, float* out, int rows) {
  const float *weight = net.weight(net.hidden()), *bias = net.bias(net.hidden());
  const int h = net.sizes[net.hidden()], n = net.outputs();
  if (n > 1) product(values, h, weight, out, rows, h, n, 0);
  for (int i = 0; i < rows; ++i) {
    if (n == 1) {
      const float* row = values + int64_t(i) * h;
      float sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int k = 0; k < h; ++k) sum += row[k] * weight[k];
      out[i] = sum;
    }
    for (int k = 0; k < n; ++k) out[int64_t(i) * n + k] += bias[k];
  }
}

// Outputs [rows, outputs] of inputs [rows, sizes[0]]; the values and slopes of hidden layer l go to values[l] and slopes[l].
void forward(
    const Network& net, const float* inputs, float* const* values, float* const* slopes, float* out, int rows) {
  for (int l = 0; l < net.hidden(); ++l) {
    product(l ? values[l - 1] : inputs, net.sizes[l], net.weight(l), values[l], rows, net.sizes[l], net.sizes[l + 1], 0);
    activate_with_slope(net.relu, values[l], slopes[l], net.bias(l), rows, net.sizes[l + 1]);
  }
  last_product(net, values[net.hidden() - 1], out, rows);
}

void column_sums(const float* x, float* out, int rows, int h, bool add) {
  if (!add) std::fill(out, out + h, 0.0f);
  for (int i = 0; i < rows; ++i) {
    const float* row = x + int64_t(i) * h;
#pragma omp simd
    for (int k = 0; k < h; ++k) out[k] += row[k];
  }
}

float sum_of_squares(const float* x, int64_t size) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t k = 0; k < size; ++k) sum += x[k] * x[k];
  return sum;
}

// Back from the gradient at the outputs [rows, outputs]. `gradient`, if any: where that of the tensors goes, or is added;
// values are then needed. `of_sums` [2, rows, width] is memory; what is returned is its half that holds the gradient at the
// sums of the first layer.
const float* backward(
    const Network& net, const float* inputs, float* const* values, const float* const* slopes, const float* of_outputs,
    float* const* gradient, bool add, float* of_sums, int rows) {
  const int last = net.hidden(), n = net.outputs();
  float *of_layer = of_sums, *spare = of_sums + int64_t(rows) * net.width();
  const float* of_next = of_outputs;
  for (int l = last; l >= 0; --l) {
    const int inputs_of_layer = net.sizes[l], outputs_of_layer = net.sizes[l + 1];
    if (gradient) {
      product_of_transposed(
          l ? values[l - 1] : inputs, of_next, gradient[2 * l], inputs_of_layer, rows, outputs_of_layer, add ? 1.0f : 0.0f);
      column_sums(of_next, gradient[2 * l + 1], rows, outputs_of_layer, add);
    }
    if (l == 0) break;
    if (l == last && n == 1) {
      for (int i = 0; i < rows; ++i) {
        const float *slope = slopes[l - 1] + int64_t(i) * inputs_of_layer, *weight = net.weight(l);
        float* row = of_layer + int64_t(i) * inputs_of_layer;
#pragma omp simd
        for (int k = 0; k < inputs_of_layer; ++k) row[k] = slope[k] * (of_outputs[i] * weight[k]);
      }
    } else {
      product_with_transposed(of_next, net.weight(l), spare, rows, outputs_of_layer, inputs_of_layer);
      std::swap(of_layer, spare);
      const float* slope = slopes[l - 1];
#pragma omp simd
      for (int64_t k = 0; k < int64_t(rows) * inputs_of_layer; ++k) of_layer[k] *= slope[k];
    }
    of_next = of_layer;
  }
  return of_next;
}

// Hidden layers' arrays [rows, width] one after the other.
void lay_out(float* memory, float** layers, int count, int64_t size) {
  for (int l = 0; l < count; ++l) layers[l] = memory + l * size;
}

constexpr int MOST_HIDDEN = 16;  // layers of a network

}  // namespace

extern "C" {

int whole_most_hidden() { return MOST_HIDDEN; }

int whole_rows() { return ROWS; }

void whole_use(void* multiply, void* threads) {
  sgemm = reinterpret_cast<Sgemm>(multiply);
  set_threads = reinterpret_cast<SetThreads>(threads);
}

// outputs [N, states * share, outputs] of pairs of a state [runs, states, of_state] and one of its `share` actions
// [runs, states * share, of_action]; `action_row` and `state_row` say at which rows of weight 0 they begin. first_bias
// [runs, sizes[1]], if any, takes the place of bias 0.
void whole_outputs(
    const float* const* tensors, const int32_t* sizes, int64_t count, int64_t relu, int64_t networks, int64_t runs, const float* states,
    const float* actions, const float* first_bias, int64_t state_count, int64_t share, int64_t of_state, int64_t of_action,
    int64_t state_row, int64_t action_row, float* outputs, int64_t threads) {
  const int64_t members = networks / runs;
  const int64_t block = std::max<int64_t>(1, ROWS / share), blocks = (state_count + block - 1) / block;
#pragma omp parallel num_threads(threads)
  {
    const int before = set_threads(1);
#pragma omp for collapse(2) schedule(dynamic)
    for (int64_t n = 0; n < networks; ++n)
      for (int64_t at = 0; at < blocks; ++at) {
        const Network net{sizes, int(count), relu != 0, tensors + 2 * count * n};
        const int64_t run = n / members, first = at * block;
        const int some = int(std::min(block, state_count - first)), rows = int(some * share), width = net.width();
        float* memory = workspace(2 * block * share * width + block * width);
        float *values = memory, *spare = memory + int64_t(rows) * width;
        const float* bias = first_bias ? first_bias + run * width : net.bias(0);
        const float* state = states + (run * state_count + first) * of_state;
        const float* action = actions + (run * state_count + first) * share * of_action;
        const float *by_state = net.weight(0) + state_row * width, *by_action = net.weight(0) + action_row * width;
        if (share == 1) {
          product(state, of_state, by_state, values, rows, of_state, width, 0);
          product(action, of_action, by_action, values, rows, of_action, width, 1);
          activate(net.relu, values, bias, rows, width);
        } else {
          // What a state's actions share is multiplied once.
          float* base = spare + int64_t(rows) * width;
          product(state, of_state, by_state, base, some, of_state, width, 0);
          product(action, of_action, by_action, values, rows, of_action, width, 0);
          for (int i = 0; i < some; ++i) {
            for (int k = 0; k < width; ++k) base[i * width + k] += bias[k];
            activate(net.relu, values + i * share * width, base + i * width, int(share), width);
          }
        }
        for (int l = 1; l < net.hidden(); ++l) {
          product(values, net.sizes[l], net.weight(l), spare, rows, net.sizes[l], net.sizes[l + 1], 0);
          activate(net.relu, spare, net.bias(l), rows, net.sizes[l + 1]);
          std::swap(values, spare);
        }
        last_product(net, values, outputs + (n * state_count + first) * share * net.outputs(), rows);
      }
    set_threads(before);
  }
}

// q [N, rows] of inputs [runs, rows, sizes[0]], and the gradient of scale * sum (q - targets)^2 / 2 for targets [N, rows];
// squares [N], the sum of each network's squared, taken while they are at hand.
void whole_regress(
    const float* const* tensors, const int32_t* sizes, int64_t count, int64_t relu, int64_t networks, int64_t runs, const float* inputs,
    const float* targets, float scale, int64_t all_rows, float* q, float* const* gradients, float* squares,
    int64_t threads) {
  const int64_t members = networks / runs;
#pragma omp parallel num_threads(threads)
  {
    const int before = set_threads(1);
#pragma omp for schedule(dynamic)
    for (int64_t n = 0; n < networks; ++n) {
      const Network net{sizes, int(count), relu != 0, tensors + 2 * count * n};
      const int64_t layer = int64_t(ROWS) * net.width();
      float* memory = workspace(layer * (2 * net.hidden() + 2) + ROWS);
      float *values[MOST_HIDDEN], *slopes[MOST_HIDDEN];
      lay_out(memory, values, net.hidden(), layer);
      lay_out(memory + layer * net.hidden(), slopes, net.hidden(), layer);
      float *of_sums = memory + 2 * layer * net.hidden(), *of_outputs = of_sums + 2 * layer;
      for (int64_t first = 0; first < all_rows; first += ROWS) {
        const int rows = int(std::min<int64_t>(ROWS, all_rows - first));
        const float* of_rows = inputs + (n / members * all_rows + first) * sizes[0];
        float* found = q + n * all_rows + first;
        forward(net, of_rows, values, slopes, found, rows);
        for (int i = 0; i < rows; ++i) of_outputs[i] = scale * (found[i] - targets[n * all_rows + first + i]);
        backward(net, of_rows, values, slopes, of_outputs, gradients + 2 * count * n, first > 0, of_sums, rows);
      }
      squares[n] = 0;
      for (int l = 0; l < count; ++l) {
        const float* const* layer_gradient = gradients + 2 * (count * n + l);
        squares[n] += sum_of_squares(layer_gradient[0], int64_t(sizes[l]) * sizes[l + 1]);
        squares[n] += sum_of_squares(layer_gradient[1], sizes[l + 1]);
      }
    }
    set_threads(before);
  }
}

// outputs [N, rows, outputs] of inputs [runs, rows, sizes[0]]; slopes [N, hidden, rows, width] are kept, and values of the
// same shape where there is memory for them.
void whole_forward(
    const float* const* tensors, const int32_t* sizes, int64_t count, int64_t relu, int64_t networks, int64_t runs, const float* inputs,
    int64_t all_rows, float* outputs, float* all_slopes, float* all_values, int64_t threads) {
  const int64_t members = networks / runs, blocks = (all_rows + ROWS - 1) / ROWS;
#pragma omp parallel num_threads(threads)
  {
    const int before = set_threads(1);
#pragma omp for collapse(2) schedule(dynamic)
    for (int64_t n = 0; n < networks; ++n)
      for (int64_t at = 0; at < blocks; ++at) {
        const Network net{sizes, int(count), relu != 0, tensors + 2 * count * n};
        const int64_t first = at * ROWS, layer = int64_t(ROWS) * net.width(), kept = all_rows * net.width();
        const int rows = int(std::min<int64_t>(ROWS, all_rows - first));
        const int64_t start = n * net.hidden() * kept + first * net.width();
        float *values[MOST_HIDDEN], *slopes[MOST_HIDDEN];
        lay_out(all_slopes + start, slopes, net.hidden(), kept);
        if (all_values)
          lay_out(all_values + start, values, net.hidden(), kept);
        else
          lay_out(workspace(layer * net.hidden()), values, net.hidden(), layer);
        const float* of_rows = inputs + (n / members * all_rows + first) * sizes[0];
        forward(net, of_rows, values, slopes, outputs + (n * all_rows + first) * net.outputs(), rows);
      }
    set_threads(before);
  }
}

// What `whole_forward` kept, gone back through: of_inputs [N, rows, wanted], the gradient at the inputs from `first_input`
// on; and where there are gradients, [N, parts], those of the tensors, one for each rows_per_part of rows, a multiple of
// ROWS.
void whole_backward(
    const float* const* tensors, const int32_t* sizes, int64_t count, int64_t relu, int64_t networks, int64_t runs,
    const float* inputs, const float* of_outputs, int64_t all_rows, int64_t rows_per_part, float* all_slopes,
    float* all_values, int64_t first_input, int64_t wanted, float* of_inputs, float* const* gradients, int64_t threads) {
  const int64_t members = networks / runs, parts = (all_rows + rows_per_part - 1) / rows_per_part;
#pragma omp parallel num_threads(threads)
  {
    const int before = set_threads(1);
#pragma omp for collapse(2) schedule(dynamic)
    for (int64_t n = 0; n < networks; ++n)
      for (int64_t part = 0; part < parts; ++part) {
        const Network net{sizes, int(count), relu != 0, tensors + 2 * count * n};
        const int64_t kept = all_rows * net.width();
        const int64_t begin = part * rows_per_part, end = std::min(begin + rows_per_part, all_rows);
        for (int64_t first = begin; first < end; first += ROWS) {
          const int rows = int(std::min<int64_t>(ROWS, end - first));
          const int64_t start = n * net.hidden() * kept + first * net.width();
          float *values[MOST_HIDDEN], *slopes[MOST_HIDDEN];
          lay_out(all_slopes + start, slopes, net.hidden(), kept);
          if (all_values) lay_out(all_values + start, values, net.hidden(), kept);
          const float* of_first = backward(
              net, inputs ? inputs + (n / members * all_rows + first) * sizes[0] : nullptr, values, slopes,
              of_outputs + (n * all_rows + first) * net.outputs(),
              gradients ? gradients + 2 * count * (n * parts + part) : nullptr, first > begin,
              workspace(2 * int64_t(ROWS) * net.width()), rows);
          product_with_transposed(
              of_first, net.weight(0) + first_input * net.width(), of_inputs + (n * all_rows + first) * wanted, rows,
              net.width(), int(wanted));
        }
      }
    set_threads(before);
  }
}

}  // extern "C"
