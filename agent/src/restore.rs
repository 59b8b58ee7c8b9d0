//! Taking changes back exactly.
