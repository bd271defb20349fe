//! Fixtures that the integration tests share.
