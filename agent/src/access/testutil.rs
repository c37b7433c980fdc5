//! Twins in memory.
