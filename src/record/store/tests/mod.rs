//! Tests of the store: rules of writes, groups, opening, crashes, damage, and a model it is held against.

mod crash;
mod damage;
mod fixture;
mod group;
mod model;
mod opening;
mod reading;
mod rules;
