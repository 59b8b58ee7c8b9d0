//! Tests of the store: rules of writes, groups, opening, crashes, damage, and a model it is held against.

mod audited;
mod crash;
mod damage;
mod fixture;
mod group;
mod heals;
mod model;
mod opening;
mod reading;
mod rules;
