//! The model's closed sets of words as schemas: the document lists exactly the words that the code knows.

use std::borrow::Cow;

use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::model::approval::ApprovalState;
use crate::model::backup::BackupKind;
use crate::model::breaker::BreakerState;
use crate::model::incident::{IncidentKind, IncidentState};
use crate::model::word::{About, Category, HealingMode, MatchKind, Risk, Severity, Status};

macro_rules! word_schemas {
    ($($word:ident as $name:literal),+ $(,)?) => {$(
        impl PartialSchema for $word {
            fn schema() -> RefOr<Schema> {
                ObjectBuilder::new()
                    .schema_type(SchemaType::Type(Type::String))
                    .enum_values(Some($word::ALL.iter().map(|word| word.as_str())))
                    .into()
            }
        }

        impl ToSchema for $word {
            fn name() -> Cow<'static, str> {
                Cow::Borrowed($name)
            }
        }
    )+};
}

word_schemas!(
    About as "About",
    ApprovalState as "ApprovalState",
    BackupKind as "BackupKind",
    BreakerState as "BreakerState",
    Category as "Category",
    HealingMode as "HealingMode",
    IncidentKind as "IncidentKind",
    IncidentState as "IncidentState",
    MatchKind as "MatchKind",
    Risk as "Risk",
    Severity as "Severity",
    Status as "CheckStatus",
);
