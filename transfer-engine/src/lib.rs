//! Moves a workspace to and from an object store.
