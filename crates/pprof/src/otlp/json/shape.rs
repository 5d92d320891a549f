//! The messages of an export as JSON names them, and their fields in the current generation.

/// A message.
#[derive(Debug)]
pub(super) struct Shape {
    /// With its article, for errors.
    pub(super) what: &'static str,
    pub(super) fields: &'static [Field],
}

#[derive(Debug)]
pub(super) struct Field {
    /// In camelCase.
    pub(super) name: &'static str,
    pub(super) number: u32,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Int,
    /// Packed.
    Ints,
    Fixed,
    /// Packed.
    Fixeds,
    Text,
    /// A trace, span or profile id.
    Id,
    Message(&'static Shape),
    /// A value of which only that it is there is of use.
    Other,
    /// A field that only generations before 1.8 have.
    Before18,
}

impl Shape {
    /// The field of a name in camelCase or snake_case.
    pub(super) fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| is_name(field.name, name))
    }
}

fn is_name(camel: &str, name: &str) -> bool {
    if name == camel {
        return true;
    }
    let given = name.bytes().filter(|&byte| byte != b'_');
    name.contains('_')
        && given
            .map(|byte| byte.to_ascii_lowercase())
            .eq(camel.bytes().map(|byte| byte.to_ascii_lowercase()))
}

const fn field(name: &'static str, number: u32, kind: Kind) -> Field {
    Field { name, number, kind }
}

use Kind::{Before18, Fixed, Fixeds, Id, Int, Ints, Message, Other, Text};

pub(super) static EXPORT: Shape = Shape {
    what: "an export of profiles",
    fields: &[
        field("resourceProfiles", 1, Message(&RESOURCE_PROFILES)),
        field("dictionary", 2, Message(&DICTIONARY)),
    ],
};

static RESOURCE_PROFILES: Shape = Shape {
    what: "a resource's profiles",
    fields: &[
        field("resource", 1, Message(&RESOURCE)),
        field("scopeProfiles", 2, Message(&SCOPE_PROFILES)),
    ],
};

static RESOURCE: Shape = Shape {
    what: "a resource",
    fields: &[field("attributes", 1, Message(&KEY_VALUE))],
};

static SCOPE_PROFILES: Shape = Shape {
    what: "a scope's profiles",
    fields: &[
        field("scope", 1, Message(&SCOPE)),
        field("profiles", 2, Message(&PROFILE)),
    ],
};

static SCOPE: Shape = Shape {
    what: "a scope",
    fields: &[
        field("name", 1, Text),
        field("version", 2, Text),
        field("attributes", 3, Message(&KEY_VALUE)),
    ],
};

static PROFILE: Shape = Shape {
    what: "a profile",
    fields: &[
        field("sampleType", 1, Message(&VALUE_TYPE)),
        field("samples", 2, Message(&SAMPLE)),
        field("sample", 2, Message(&SAMPLE)),
        field("timeUnixNano", 3, Fixed),
        field("durationNano", 4, Int),
        field("periodType", 5, Message(&VALUE_TYPE)),
        field("period", 6, Int),
        field("locationIndices", 0, Before18),
        field("timeNanos", 0, Before18),
        field("durationNanos", 0, Before18),
        field("defaultSampleTypeIndex", 0, Before18),
    ],
};

static VALUE_TYPE: Shape = Shape {
    what: "a value type",
    fields: &[field("typeStrindex", 1, Int), field("unitStrindex", 2, Int)],
};

static SAMPLE: Shape = Shape {
    what: "a sample",
    fields: &[
        field("stackIndex", 1, Int),
        field("attributeIndices", 2, Ints),
        field("linkIndex", 3, Int),
        field("values", 4, Ints),
        field("timestampsUnixNano", 5, Fixeds),
        field("locationsStartIndex", 0, Before18),
        field("locationsLength", 0, Before18),
    ],
};

static DICTIONARY: Shape = Shape {
    what: "a dictionary",
    fields: &[
        field("mappingTable", 1, Message(&MAPPING)),
        field("locationTable", 2, Message(&LOCATION)),
        field("functionTable", 3, Message(&FUNCTION)),
        field("linkTable", 4, Message(&LINK)),
        field("stringTable", 5, Text),
        field("attributeTable", 6, Message(&KEY_VALUE_AND_UNIT)),
        field("stackTable", 7, Message(&STACK)),
        field("attributeUnits", 0, Before18),
    ],
};

static MAPPING: Shape = Shape {
    what: "a mapping",
    fields: &[
        field("memoryStart", 1, Int),
        field("memoryLimit", 2, Int),
        field("fileOffset", 3, Int),
        field("filenameStrindex", 4, Int),
        field("attributeIndices", 5, Ints),
    ],
};

static LOCATION: Shape = Shape {
    what: "a location",
    fields: &[
        field("mappingIndex", 1, Int),
        field("address", 2, Int),
        field("lines", 3, Message(&LINE)),
        field("line", 3, Message(&LINE)),
        field("attributeIndices", 4, Ints),
    ],
};

static LINE: Shape = Shape {
    what: "a line",
    fields: &[
        field("functionIndex", 1, Int),
        field("line", 2, Int),
        field("column", 3, Int),
    ],
};

static FUNCTION: Shape = Shape {
    what: "a function",
    fields: &[
        field("nameStrindex", 1, Int),
        field("systemNameStrindex", 2, Int),
        field("filenameStrindex", 3, Int),
        field("startLine", 4, Int),
    ],
};

static LINK: Shape = Shape {
    what: "a link",
    fields: &[field("traceId", 1, Id), field("spanId", 2, Id)],
};

static STACK: Shape = Shape {
    what: "a stack",
    fields: &[field("locationIndices", 1, Ints)],
};

static KEY_VALUE_AND_UNIT: Shape = Shape {
    what: "an attribute of the dictionary",
    fields: &[
        field("keyStrindex", 1, Int),
        field("value", 2, Message(&ANY_VALUE)),
        field("unitStrindex", 3, Int),
    ],
};

static KEY_VALUE: Shape = Shape {
    what: "an attribute",
    fields: &[
        field("key", 1, Text),
        field("value", 2, Message(&ANY_VALUE)),
        field("keyStrindex", 3, Int),
    ],
};

static ANY_VALUE: Shape = Shape {
    what: "an attribute value",
    fields: &[
        field("stringValue", 1, Text),
        field("boolValue", 2, Other),
        field("intValue", 3, Int),
        field("doubleValue", 4, Other),
        field("arrayValue", 5, Message(&LIST)),
        field("kvlistValue", 6, Message(&MAP)),
        field("bytesValue", 7, Other),
        field("stringValueStrindex", 8, Int),
    ],
};

static LIST: Shape = Shape {
    what: "a list value",
    fields: &[field("values", 1, Message(&ANY_VALUE))],
};

/// Its content is of no use: it cannot be a label.
static MAP: Shape = Shape {
    what: "a map value",
    fields: &[],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_both_forms() {
        for name in ["resourceProfiles", "resource_profiles"] {
            assert_eq!(EXPORT.field(name).unwrap().number, 1);
        }
        for name in ["", "resourceprofiles", "resource_profile", "_"] {
            assert!(EXPORT.field(name).is_none(), "{name}");
        }
    }
}
