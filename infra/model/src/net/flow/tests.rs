//! Packets through small networks.
