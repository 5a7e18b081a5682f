//! Placeholder of the branch.
