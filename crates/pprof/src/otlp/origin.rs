//! Who an export's profiles come from: the resources and scopes around them, and the labels that
//! follow from these.
//!
//! # Invariants
//! - Resource attributes come before scope attributes; of a repeated key the first one counts.
//! - Every profile gets exactly one `service_name`.

use scoria_model::labels::names;

use super::attributes::{Attribute, Strings, Value};
use super::fields::{Fields, Malformed, Span};

/// The attribute that names a service.
pub(super) const SERVICE: &str = "service.name";
const EXECUTABLE: &str = "process.executable.name";
const UNKNOWN_SERVICE: &str = "unknown_service";
const OTEL: &str = "__otel__";
/// Far above any limit on labels: keeps looking for repeated keys cheap.
const ATTRIBUTES_MAX: usize = 1000;

/// Where a profile's service name comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceSource {
    /// The sender gave it.
    Named,
    /// The sender gave none: it is `unknown_service`, with the name of the executable if that is
    /// known.
    Unknown,
}

/// Where profiles stand in an export.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place {
    pub(super) resource: Span,
    pub(super) scope: Span,
    pub(super) profile: Span,
}

/// Calls `visit` for every profile of an export, in order.
pub(super) fn profiles<E: From<Malformed>>(
    body: &[u8],
    mut visit: impl FnMut(Place) -> Result<(), E>,
) -> Result<usize, E> {
    let mut n_resources = 0;
    let mut fields = Fields::of(body, Span::whole(body), super::EXPORT);
    while let Some(tag) = fields.next()? {
        if tag.number == 1 {
            n_resources += 1;
            of_resource(body, fields.span(tag)?, &mut visit)?;
        } else {
            fields.skip(tag)?;
        }
    }
    Ok(n_resources)
}

fn of_resource<E: From<Malformed>>(
    body: &[u8],
    place: Span,
    visit: &mut impl FnMut(Place) -> Result<(), E>,
) -> Result<(), E> {
    const WHAT: &str = "a resource's profiles";
    let resource = first(body, place, WHAT)?;
    let mut fields = Fields::of(body, place, WHAT);
    while let Some(tag) = fields.next()? {
        if tag.number != 2 {
            fields.skip(tag)?;
            continue;
        }
        let scoped = fields.span(tag)?;
        of_scope(body, (resource, scoped), visit)?;
    }
    Ok(())
}

fn of_scope<E: From<Malformed>>(
    body: &[u8],
    (resource, scoped): (Span, Span),
    visit: &mut impl FnMut(Place) -> Result<(), E>,
) -> Result<(), E> {
    const WHAT: &str = "a scope's profiles";
    let scope = first(body, scoped, WHAT)?;
    let mut fields = Fields::of(body, scoped, WHAT);
    while let Some(tag) = fields.next()? {
        if tag.number != 2 {
            fields.skip(tag)?;
            continue;
        }
        visit(Place {
            resource,
            scope,
            profile: fields.span(tag)?,
        })?;
    }
    Ok(())
}

/// The message in field 1, which may stand behind what it is about.
fn first(body: &[u8], place: Span, what: &'static str) -> Result<Span, Malformed> {
    let mut fields = Fields::of(body, place, what);
    let mut found = Span::default();
    while let Some(tag) = fields.next()? {
        if tag.number == 1 {
            found = fields.span(tag)?;
        } else {
            fields.skip(tag)?;
        }
    }
    Ok(found)
}

/// What the resource and the scope say about all of their profiles.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Origin {
    /// The attributes that are labels, in order, each key once; without `service_name`.
    pub(super) labels: Vec<(String, String)>,
    service: Option<String>,
    executable: Option<String>,
    /// Attributes that cannot be labels.
    pub(super) n_unusable: u64,
    /// The scope's name and version, for messages.
    pub(super) scope: String,
}

/// An attribute that makes its profiles unreadable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("an attribute uses string {index}, but the dictionary's string_table has {n} entries")]
    Index { index: u32, n: usize },
    #[error("an attribute is not valid UTF-8")]
    Utf8,
    #[error("its resource and scope have more than {ATTRIBUTES_MAX} attributes")]
    TooMany,
}

impl Origin {
    pub(super) fn read(
        strings: Strings<'_>,
        place: Place,
        interned: &mut bool,
    ) -> Result<Self, Broken> {
        let mut origin = Self::default();
        let mut resource = Fields::of(strings.body, place.resource, "a resource");
        while let Some(tag) = resource.next()? {
            if tag.number == 1 {
                let attribute = strings.key_value(resource.span(tag)?, interned)?;
                origin.add(strings, attribute)?;
            } else {
                resource.skip(tag)?;
            }
        }
        let mut scope = Fields::of(strings.body, place.scope, "a scope");
        while let Some(tag) = scope.next()? {
            match tag.number {
                1 | 2 => {
                    let text = scope.span(tag)?.of(strings.body);
                    let separator = if tag.number == 2 { " " } else { "" };
                    origin.scope.push_str(separator);
                    origin.scope.push_str(&String::from_utf8_lossy(text));
                }
                3 => {
                    let attribute = strings.key_value(scope.span(tag)?, interned)?;
                    origin.add(strings, attribute)?;
                }
                _ => scope.skip(tag)?,
            }
        }
        Ok(origin)
    }

    fn add(&mut self, strings: Strings<'_>, attribute: Attribute) -> Result<(), Broken> {
        let Some(key) = text(strings, attribute.key)? else {
            return Ok(());
        };
        let Some(value) = text(strings, attribute.value)? else {
            self.n_unusable += u64::from(attribute.value == Value::Other);
            return Ok(());
        };
        let first = |slot: &mut Option<String>, value: &str| {
            slot.get_or_insert_with(|| value.to_owned());
        };
        match &*key {
            SERVICE => first(&mut self.service, &value),
            EXECUTABLE => first(&mut self.executable, &value),
            _ => {}
        }
        if self.labels.iter().any(|(known, _)| *known == key) {
            return Ok(());
        }
        if self.labels.len() == ATTRIBUTES_MAX {
            return Err(Broken::TooMany);
        }
        self.labels.push((key, value));
        Ok(())
    }

    /// The labels of a profile of this origin. `service` is what its samples say.
    pub(super) fn labels_of(
        &self,
        name: &str,
        service: Option<&str>,
    ) -> (Vec<(String, String)>, ServiceSource) {
        let own = |wanted: &str| {
            let mut labels = self.labels.iter();
            labels.find(|(key, _)| key == wanted).map(|(_, v)| &**v)
        };
        let given = service
            .or(self.service.as_deref())
            .or_else(|| own(names::SERVICE_NAME));
        let source = match given {
            Some(_) => ServiceSource::Named,
            None => ServiceSource::Unknown,
        };
        let service = match (given, &self.executable) {
            (Some(given), _) => given.to_owned(),
            (None, Some(executable)) => format!("{UNKNOWN_SERVICE}:{executable}"),
            (None, None) => UNKNOWN_SERVICE.to_owned(),
        };
        let fixed = [(names::DELTA, "false"), (OTEL, "true"), (names::NAME, name)];
        let mut labels = Vec::with_capacity(self.labels.len() + 4);
        labels.extend(fixed.map(|(key, value)| (key.to_owned(), value.to_owned())));
        let is_ours =
            |key: &str| key == names::SERVICE_NAME || fixed.iter().any(|(fixed, _)| *fixed == key);
        let attributes = self.labels.iter().filter(|(key, _)| !is_ours(key));
        labels.extend(attributes.cloned());
        labels.push((names::SERVICE_NAME.to_owned(), service));
        (labels, source)
    }

    /// Who sent it, for messages.
    pub(super) fn describe(&self) -> String {
        let service = self.service.as_deref().or(self.executable.as_deref());
        let scope = match self.scope.trim() {
            "" => "without a name".to_owned(),
            scope => format!("{:?}", shortened(scope)),
        };
        match service {
            Some(service) => format!("service {:?}, scope {scope}", shortened(service)),
            None => format!("scope {scope}"),
        }
    }
}

fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(128)]
}

/// The value as a label's text; `None` if it has none.
pub(super) fn text(strings: Strings<'_>, value: Value) -> Result<Option<String>, Broken> {
    match value {
        Value::Empty | Value::Other => Ok(None),
        Value::Number(number) => Ok(Some(number.to_string())),
        Value::Text(place) => {
            let text = std::str::from_utf8(place.of(strings.body));
            text.map(|text| Some(text.to_owned()))
                .map_err(|_| Broken::Utf8)
        }
        Value::Broken { index } => Err(Broken::Index {
            index,
            n: strings.places.len(),
        }),
    }
}
