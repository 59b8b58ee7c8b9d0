//! Every setting changes what the daemon runs on.

use super::*;

#[test]
fn the_least_configuration_has_the_documented_defaults() {
    let settings = settings_of(SHOP);
    let app = &settings.apps["shop"];
    assert_eq!(app.policy, crate::model::policy::Policy::default());
    assert_eq!(app.target.uid, 1001);
}
