//! The OpenAPI document, from the same code as the routes.

use utoipa::openapi::path::Operation;
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::{ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, Ref};
use utoipa::{PartialSchema as _, ToSchema as _};

use super::{routes, wire};

/// The whole document.
pub fn document() -> OpenApi {
    finish(routes::documented().into_openapi())
}

/// Adds what holds for every route: what this is, and what an error looks like.
pub(super) fn finish(found: OpenApi) -> OpenApi {
    let info = InfoBuilder::new()
        .title("healerd control socket")
        .version("1")
        .description(Some(
            "HTTP/1.1 and JSON over a Unix socket. The caller's identity is what the kernel says of the connection; roles are \
             viewer < operator < approver < admin. Times are RFC 3339 in UTC. Answers may gain fields; requests may not hold \
             unknown ones.",
        ))
        .build();
    let mut document = OpenApiBuilder::from(found).info(info).build();
    for (path, item) in &mut document.paths.paths {
        let verbs = [
            ("get", &mut item.get),
            ("post", &mut item.post),
            ("delete", &mut item.delete),
        ];
        for (verb, operation) in verbs {
            let Some(operation) = operation else { continue };
            operation.operation_id = Some(id(verb, path));
            may_fail(operation);
        }
    }
    let components = document.components.get_or_insert_default();
    components
        .schemas
        .insert(wire::Problem::name().into_owned(), wire::Problem::schema());
    document
}

/// Names an operation by verb and path: handlers of different nouns bear the same name.
fn id(verb: &str, path: &str) -> String {
    let path = path.strip_prefix(wire::BASE).unwrap_or(path);
    let words = path
        .split(|letter: char| !letter.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty());
    std::iter::once(verb)
        .chain(words)
        .collect::<Vec<_>>()
        .join("_")
}

fn may_fail(operation: &mut Operation) {
    let problem = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name(wire::Problem::name())))
        .build();
    let response = ResponseBuilder::new()
        .description("It was refused or failed: 403 role, 404 unknown, 409 not now, 422 bad input, 503 not available.")
        .content(wire::PROBLEM_TYPE, problem)
        .build();
    operation
        .responses
        .responses
        .insert("default".to_owned(), response.into());
}
