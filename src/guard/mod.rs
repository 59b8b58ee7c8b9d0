//! May this heal start now?
