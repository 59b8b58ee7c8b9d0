//! What differs between two or three looks at a tree.
