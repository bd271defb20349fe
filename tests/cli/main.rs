//! Runs the built program as a person or a script does.
