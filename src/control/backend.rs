//! What the socket needs of the engine, as one trait, so that it can be held to its contract without an engine.

use std::time::Duration;

use tokio::sync::broadcast;

use crate::engine::handle::{
    ActionView, AppView, EventLine, Handle, HealAnswer, HealRequest, OpError, RollbackRequest,
};
use crate::engine::{HostView, Offer};
use crate::model::approval::{Approval, Person};
use crate::model::backup::BackupRow;
use crate::model::breaker::ForcedState;
use crate::model::heal::Heal;
use crate::model::host::Finding;
use crate::model::id::{ApprovalId, BackupId, HealId, HoldId, IncidentId};
use crate::model::name::{AppName, CheckName, HostName};
use crate::model::stop::{Hold, ModeOverride, Scope};
use crate::model::time::Moment;
use crate::model::word::HealingMode;
use crate::model::{Digest, TreePath};
use crate::seam::{BoxFuture, Store};
use crate::undo::RollbackPreview;

/// An answer that takes a while.
type Answer<'a, T> = BoxFuture<'a, Result<T, OpError>>;

macro_rules! backend {
    (
        reads { $(fn $read:ident(&self $(, $rarg:ident: $rty:ty)*) -> $rout:ty;)* }
        answers { $(fn $say:ident(&self $(, $sarg:ident: $sty:ty)*) -> $sout:ty;)* }
        asks { $(fn $ask:ident(&self $(, $arg:ident: $ty:ty)*) -> $out:ty;)* }
    ) => {
        /// The engine, as the control socket sees it; every verb is the one of the same name of [`Handle`].
        pub trait Backend: Send + Sync {
            /// One reading of the clocks.
            fn now(&self) -> Moment;
            /// Rows that are only read.
            fn store(&self) -> &dyn Store;
            $(
                /// See [`Handle`].
                ///
                /// # Errors
                /// As [`Handle`] says, where it can fail.
                fn $read(&self $(, $rarg: $rty)*) -> $rout;
            )*
            $(
                /// See [`Handle`].
                fn $say(&self $(, $sarg: $sty)*) -> Answer<'_, $sout>;
            )*
            $(
                /// See [`Handle`].
                fn $ask<'a>(&'a self $(, $arg: $ty)*) -> Answer<'a, $out>;
            )*
        }

        impl Backend for Handle {
            fn now(&self) -> Moment {
                self.world().clock.now()
            }
            fn store(&self) -> &dyn Store {
                &*self.world().store
            }
            $(fn $read(&self $(, $rarg: $rty)*) -> $rout {
                Self::$read(self $(, $rarg)*)
            })*
            $(fn $say(&self $(, $sarg: $sty)*) -> Answer<'_, $sout> {
                Box::pin(Self::$say(self $(, $sarg)*))
            })*
            $(fn $ask<'a>(&'a self $(, $arg: $ty)*) -> Answer<'a, $out> {
                Box::pin(Self::$ask(self $(, $arg)*))
            })*
        }
    };
}

backend! {
    reads {
        fn apps(&self) -> Vec<AppView>;
        fn app(&self, app: &AppName) -> Result<AppView, OpError>;
        fn actions(&self, app: &AppName) -> Result<Vec<ActionView>, OpError>;
        fn events(&self) -> broadcast::Receiver<EventLine>;
        fn holds(&self) -> Vec<Hold>;
        fn modes(&self) -> Vec<ModeOverride>;
        fn observing(&self) -> Option<String>;
        fn hosts(&self) -> Vec<HostView>;
    }
    answers {
        fn approve(&self, id: ApprovalId, digest: Digest, reason: String, person: Person) -> Approval;
        fn reject(&self, id: ApprovalId, reason: String, person: Person) -> Approval;
        fn decide(&self, id: HealId, undo: bool, reason: String, person: Person) -> Heal;
        fn close_incident(&self, id: IncidentId, reason: String, person: Person) -> ();
    }
    asks {
        fn diagnose(&self, app: &'a AppName) -> AppView;
        fn heal(&self, app: &'a AppName, request: HealRequest, person: Person) -> HealAnswer;
        fn preview(&self, app: &'a AppName, backup: BackupId, exact: bool, only: Vec<TreePath>) -> RollbackPreview;
        fn rollback(&self, app: &'a AppName, request: RollbackRequest, person: Person) -> Heal;
        fn reset_breaker(&self, app: &'a AppName, reason: String, person: Person) -> ();
        fn force_breaker(
            &self, app: &'a AppName, state: Option<ForcedState>, reason: String, length: Option<Duration>, person: Person
        ) -> ();
        fn backup_now(&self, app: &'a AppName, reason: String, person: Person) -> BackupRow;
        fn verify_backup(&self, app: &'a AppName, backup: BackupId, person: Person) -> BackupRow;
        fn delete_backup(&self, app: &'a AppName, backup: BackupId, reason: String, person: Person) -> ();
        fn mute(&self, app: &'a AppName, check: CheckName, length: Duration, reason: String, person: Person) -> ();
        fn unmute(&self, app: &'a AppName, check: CheckName, why: Option<String>, person: Person) -> ();
        fn hold(&self, scope: Scope, reason: String, length: Option<Duration>, person: &'a Person) -> HoldId;
        fn resume(&self, scope: &'a Scope, undo: bool, reason: String, person: &'a Person) -> usize;
        fn scan_host(&self, host: &'a HostName) -> Offer;
        fn enrol_host(
            &self, host: &'a HostName, fingerprint: &'a str, keep: bool, why: Option<String>, person: &'a Person
        ) -> ();
        fn forget_host(&self, host: &'a HostName, why: String, person: &'a Person) -> ();
        fn examine_host(&self, host: &'a HostName) -> Vec<Finding>;
        fn set_mode(&self, app: Option<AppName>, mode: HealingMode, reason: String, person: &'a Person) -> Vec<AppName>;
        fn clear_mode(&self, app: Option<AppName>, reason: String, person: &'a Person) -> ();
        fn adopt(&self, host: &'a HostName, reason: String, person: &'a Person) -> ();
    }
}
