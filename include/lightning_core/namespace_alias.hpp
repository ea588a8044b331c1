// The reference's older name of its namespace.
#pragma once

namespace lightning_core {}
namespace cudajun = lightning_core;
