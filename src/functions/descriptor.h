// Descriptor: what is known of a function without running it, and the list of the built-in ones.
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "config/field.h"
#include "functions/function.h"

namespace hulse::functions {

struct Descriptor {
  std::string_view name;  // "identity"
  std::string_view description;
  std::span<const std::string_view> classes = {};  // Java classes that it stands for
  std::span<const config::Field> fields = {};      // of its userConfig
  size_t batches_max = 1;  // that it may be given at once: more than one if it waits for something
  // Parses the user configuration (every problem in one error) and makes it, unopened.
  Result<std::unique_ptr<Function>> (*make)(const config::Given& given) = nullptr;
};

// The functions built into this program, in the order of their names.
std::span<const Descriptor* const> registry();

// By name; letter case and `-`/`_` do not matter.
const Descriptor* find(std::string_view name);
// By the Java class it stands for.
const Descriptor* find_class(std::string_view class_name);

}  // namespace hulse::functions
