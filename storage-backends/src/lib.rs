//! Opens object stores by URL.
