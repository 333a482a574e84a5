//! What of a module's data and tables its exports reach, by the relocations that the linker leaves.
//!
//! Which functions are called can be read in the code. Which texts are used cannot, nor which functions
//! are called by an address that data holds: there a number is a number. The linker itself has kept what
//! the SDK's exports reach, so that it has to be asked again when those have gone.

use std::collections::HashSet;
use std::ops::Range;

use anyhow::{Context, bail, ensure};
use wasmparser::{
    BinaryReader, CustomSectionReader, DataKind, ElementItems, ElementKind, ExternalKind,
    KnownCustom, Linking, Operator, Parser, Payload, RelocationEntry, RelocationType, SymbolInfo,
    TypeRef,
};

/// What is reached.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reached {
    /// For each segment of a table, whether the function at each place is called by its address.
    pub(super) tables: Vec<Vec<bool>>,
    /// For each segment of data, which of its bytes are used, in ascending order.
    pub(super) data: Vec<Vec<Range<usize>>>,
}

/// Follows the exports with these names; `None` if there are no relocations to follow.
///
/// # Errors
/// If it is not a valid module, or the relocations are not of its bytes.
pub(super) fn reach(compiled: &[u8], exports: &[String]) -> anyhow::Result<Option<Reached>> {
    let linked = Linked::read(compiled).context("what the linker left cannot be read")?;
    if linked.symbols.is_empty() {
        return Ok(None);
    }
    let mut nodes: Vec<Node> = linked
        .exports
        .iter()
        .filter(|(name, _)| exports.iter().any(|export| export == name))
        .map(|(_, function)| Node::Function(*function))
        .collect();
    let mut known: HashSet<Node> = nodes.iter().copied().collect();
    let mut addressed = HashSet::new();
    while let Some(node) = nodes.pop() {
        for relocation in linked.relocations_in(node) {
            let Some(target) = linked.target(relocation)? else {
                continue;
            };
            if let (Use::Address, Node::Function(function)) = target {
                addressed.insert(function);
            }
            if known.insert(target.1) {
                nodes.push(target.1);
            }
        }
    }
    let tables = linked.tables.iter();
    let tables = tables.map(|(_, functions)| {
        functions
            .iter()
            .map(|one| addressed.contains(one))
            .collect()
    });
    let used = |segment: usize| {
        let symbols = known.iter().filter_map(|node| match node {
            Node::Data(data) if data.segment == segment && data.start < data.end => {
                Some(data.start..data.end)
            }
            _ => None,
        });
        let mut ranges: Vec<Range<usize>> = symbols.collect();
        ranges.sort_by_key(|range| range.start);
        ranges
    };
    Ok(Some(Reached {
        tables: tables.collect(),
        data: (0..linked.segments.len()).map(used).collect(),
    }))
}

/// What a relocation is to: a function by its index, or an object in a segment of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Node {
    Function(u32),
    Data(Object),
}

/// Where in a segment an object lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Object {
    segment: usize,
    start: usize,
    end: usize,
}

/// How one thing uses another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Call,
    Address,
}

/// A segment of data.
#[derive(Debug)]
struct Segment {
    /// Where it is in memory.
    address: u32,
    /// Where its bytes are in the file.
    bytes: Range<usize>,
}

/// A module as the linker leaves it. Places are those in the file.
#[derive(Debug, Default)]
struct Linked<'m> {
    file: &'m [u8],
    exports: Vec<(&'m str, u32)>,
    imported: usize,
    /// The functions of the module's own.
    bodies: Vec<Range<usize>>,
    /// Where each segment of a table begins there, and its functions.
    tables: Vec<(u32, Vec<u32>)>,
    segments: Vec<Segment>,
    /// `None` for what is neither a function nor an object.
    symbols: Vec<Option<Node>>,
    /// In the order of their places.
    relocations: Vec<(usize, RelocationEntry)>,
}

impl<'m> Linked<'m> {
    fn read(file: &'m [u8]) -> anyhow::Result<Self> {
        let mut linked = Self {
            file,
            ..Self::default()
        };
        let [mut code, mut data] = [0, 0];
        for payload in Parser::new(0).parse_all(file) {
            match payload? {
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        let is_function = matches!(import?.ty, TypeRef::Func(_));
                        linked.imported += usize::from(is_function);
                    }
                }
                Payload::ExportSection(exports) => {
                    for export in exports {
                        let export = export?;
                        if export.kind == ExternalKind::Func {
                            linked.exports.push((export.name, export.index));
                        }
                    }
                }
                Payload::ElementSection(elements) => {
                    for element in elements {
                        let element = element?;
                        let (
                            ElementKind::Active { offset_expr, .. },
                            ElementItems::Functions(functions),
                        ) = (element.kind, element.items)
                        else {
                            bail!("a table has a segment of an unknown kind");
                        };
                        let functions: Result<_, _> = functions.into_iter().collect();
                        linked.tables.push((
                            constant(offset_expr.get_operators_reader().read()?)?,
                            functions?,
                        ));
                    }
                }
                Payload::CodeSectionStart { range, .. } => code = range.start,
                Payload::CodeSectionEntry(body) => linked.bodies.push(body.range()),
                Payload::DataSection(segments) => {
                    data = segments.range().start;
                    for segment in segments {
                        let segment = segment?;
                        let DataKind::Active { offset_expr, .. } = segment.kind else {
                            bail!("a segment of data is of an unknown kind");
                        };
                        linked.segments.push(Segment {
                            address: constant(offset_expr.get_operators_reader().read()?)?,
                            bytes: segment.range.end - segment.data.len()..segment.range.end,
                        });
                    }
                }
                Payload::CustomSection(section) => linked.read_custom(&section, [code, data])?,
                _ => {}
            }
        }
        linked.relocations.sort_by_key(|(place, _)| *place);
        Ok(linked)
    }

    /// Reads a section of the linker's; those that it leaves for code and data come behind these.
    fn read_custom(
        &mut self,
        section: &CustomSectionReader<'m>,
        [code, data]: [usize; 2],
    ) -> anyhow::Result<()> {
        let start = match (section.name(), section.as_known()) {
            (_, KnownCustom::Linking(linking)) => {
                for subsection in linking.subsections() {
                    if let Linking::SymbolTable(symbols) = subsection? {
                        for symbol in symbols {
                            self.symbols.push(node(&symbol?));
                        }
                    }
                }
                return Ok(());
            }
            ("reloc.CODE", _) => code,
            ("reloc.DATA", _) => data,
            _ => return Ok(()),
        };
        if let KnownCustom::Reloc(relocations) = section.as_known() {
            for relocation in relocations.entries() {
                let relocation = relocation?;
                self.relocations
                    .push((start + relocation.offset as usize, relocation));
            }
        }
        Ok(())
    }

    /// The relocations in a function's code or in an object.
    fn relocations_in(&self, node: Node) -> &[(usize, RelocationEntry)] {
        let range = match node {
            // What is imported has no code here.
            Node::Function(index) => (index as usize)
                .checked_sub(self.imported)
                .and_then(|own| self.bodies.get(own))
                .cloned(),
            Node::Data(object) => self.segments.get(object.segment).map(|segment| {
                segment.bytes.start + object.start..segment.bytes.start + object.end
            }),
        };
        let range = range.unwrap_or_default();
        let from = self
            .relocations
            .partition_point(|(place, _)| *place < range.start);
        let to = self
            .relocations
            .partition_point(|(place, _)| *place < range.end);
        self.relocations.get(from..to).unwrap_or_default()
    }

    /// What a relocation is to, and how; `None` if that is neither a function nor an object. What the code
    /// has in its place must be just that, so that a mistake here cannot take away what is used.
    fn target(
        &self,
        (place, relocation): &(usize, RelocationEntry),
    ) -> anyhow::Result<Option<(Use, Node)>> {
        use RelocationType as Type;
        let is_word = relocation.ty.extent() == 4;
        let node = self.symbols.get(relocation.index as usize);
        let node = node.context("a relocation has no symbol")?;
        let (how, node) = match (relocation.ty, node) {
            (Type::TypeIndexLeb | Type::GlobalIndexLeb | Type::TableNumberLeb, _) => {
                return Ok(None);
            }
            (Type::FunctionIndexLeb, Some(node @ Node::Function(_))) => (Use::Call, *node),
            (Type::TableIndexSleb | Type::TableIndexI32, Some(node @ Node::Function(_))) => {
                (Use::Address, *node)
            }
            (
                Type::MemoryAddrLeb | Type::MemoryAddrSleb | Type::MemoryAddrI32,
                Some(node @ Node::Data(_)),
            ) => (Use::Address, *node),
            // What the linker itself defines, as the end of the data, is in no segment.
            (Type::MemoryAddrLeb | Type::MemoryAddrSleb | Type::MemoryAddrI32, None) => {
                return Ok(None);
            }
            (unknown, _) => bail!("a relocation is of an unknown kind, {unknown:?}"),
        };
        let found = self.number(*place, is_word)?;
        let is_there = match (how, node) {
            (Use::Call, Node::Function(function)) => found == function,
            (_, Node::Function(function)) => self.tables.iter().any(|(start, functions)| {
                let place = found.checked_sub(*start);
                place.and_then(|place| functions.get(place as usize)) == Some(&function)
            }),
            (_, Node::Data(object)) => {
                let segment = self.segments.get(object.segment);
                let address = segment.context("a symbol has no segment")?.address;
                // Addends are negative too.
                found
                    == address
                        .wrapping_add(object.start as u32)
                        .wrapping_add(relocation.addend as u32)
            }
        };
        ensure!(
            is_there,
            "the relocation at {place} is not what the module has there"
        );
        Ok(Some((how, node)))
    }

    /// The number at a place: a word, or one of variable length.
    fn number(&self, place: usize, is_word: bool) -> anyhow::Result<u32> {
        let bytes = self.file.get(place..).context("a relocation is outside")?;
        let mut reader = BinaryReader::new(bytes, place);
        if is_word {
            return Ok(reader.read_u32()?);
        }
        // Signed or not, the lower 32 bits are the same, and five bytes may have some above them.
        let mut number = 0;
        for shift in (0..35).step_by(7) {
            let byte = reader.read_u8()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        Ok(number as u32)
    }
}

fn node(symbol: &SymbolInfo<'_>) -> Option<Node> {
    match symbol {
        SymbolInfo::Func { index, .. } => Some(Node::Function(*index)),
        SymbolInfo::Data { symbol, .. } => symbol.map(|object| {
            let start = object.offset as usize;
            Node::Data(Object {
                segment: object.index as usize,
                start,
                end: start + object.size as usize,
            })
        }),
        _ => None,
    }
}

fn constant(operator: Operator<'_>) -> anyhow::Result<u32> {
    match operator {
        Operator::I32Const { value } => Ok(value.cast_unsigned()),
        _ => bail!("a segment has no constant for its place"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A section, or whatever else stands behind its length.
    fn sized(head: &[u8], content: &[u8]) -> Vec<u8> {
        let length = u8::try_from(content.len()).unwrap();
        assert!(length < 0x80);
        [head, &[length], content].concat()
    }

    fn custom(name: &str, content: &[u8]) -> Vec<u8> {
        let content = [&sized(&[], name.as_bytes()), content].concat();
        sized(&[0], &content)
    }

    /// Exports `kept` and `dropped`. Of the data `dropped` uses the first 16 bytes, and `kept` the next 4,
    /// which hold the address of the second function of the table; the first one's is in `dropped`.
    pub(in super::super) fn linked() -> Vec<u8> {
        let code = [
            &[4, 6, 0, 0x41, 0x90, 0x08, 0x1a, 0x0b][..],
            &[9, 0, 0x41, 0x80, 0x08, 0x1a, 0x41, 1, 0x1a, 0x0b],
            &[2, 0, 0x0b, 2, 0, 0x0b],
        ];
        let mut bytes = [7; 36];
        bytes[16..20].copy_from_slice(&[2, 0, 0, 0]);
        let exports = [
            &sized(&[2], b"kept")[..],
            &[0, 0],
            &sized(&[], b"dropped"),
            &[0, 1],
        ];
        let functions = (0..4).flat_map(|index| [0, 0, index, 1, b'f']);
        let objects = [[1, 0, 1, b'd', 0, 0, 16], [1, 0, 1, b'd', 0, 16, 4]];
        let symbols: Vec<u8> = [6]
            .into_iter()
            .chain(functions)
            .chain(objects.concat())
            .collect();
        [
            b"\0asm\x01\0\0\0".to_vec(),
            sized(&[1], &[1, 0x60, 0, 0]),
            sized(&[3], &[4, 0, 0, 0, 0]),
            sized(&[4], &[1, 0x70, 0, 3]),
            sized(&[5], &[1, 0, 1]),
            sized(&[7], &exports.concat()),
            sized(&[9], &[1, 0, 0x41, 1, 0x0b, 2, 2, 3]),
            sized(&[10], &code.concat()),
            sized(
                &[11],
                &[&[1, 0, 0x41, 0x80, 0x08, 0x0b, 36], &bytes[..]].concat(),
            ),
            custom("linking", &sized(&[2, 8], &symbols)),
            custom("reloc.CODE", &[0, 3, 4, 4, 5, 0, 4, 11, 4, 0, 1, 15, 2]),
            custom("reloc.DATA", &[0, 1, 2, 23, 3]),
        ]
        .concat()
    }

    fn reached(exports: &[&str]) -> Reached {
        let exports: Vec<String> = exports.iter().map(ToString::to_string).collect();
        reach(&linked(), &exports).unwrap().unwrap()
    }

    #[test]
    fn what_an_export_reaches_by_code_and_by_data_is_reached() {
        let expected = |first, second, data: &[(usize, usize)]| Reached {
            tables: vec![vec![first, second]],
            data: vec![data.iter().map(|(start, end)| *start..*end).collect()],
        };
        assert_eq!(reached(&[]), expected(false, false, &[]));
        assert_eq!(reached(&["kept"]), expected(false, true, &[(16, 20)]));
        assert_eq!(reached(&["dropped"]), expected(true, false, &[(0, 16)]));
        let both = reached(&["dropped", "kept"]);
        assert_eq!(both, expected(true, true, &[(0, 16), (16, 20)]));
    }

    /// Otherwise a linker that numbers its symbols anew would cost texts that are used.
    #[test]
    fn relocations_that_are_of_another_module_are_refused() {
        let linked = linked();
        let find = |bytes: &[u8]| {
            linked
                .windows(bytes.len())
                .position(|window| window == bytes)
        };
        for (place, byte) in [
            // The address in the code of `kept`, and the one in the data.
            (find(&[0x41, 0x90, 0x08]).unwrap() + 1, 0x94),
            (find(&[7, 2, 0, 0, 0]).unwrap() + 1, 1),
        ] {
            let mut other = linked.clone();
            other[place] = byte;
            let error = reach(&other, &["kept".to_owned()]).unwrap_err().to_string();
            assert!(
                error.ends_with("is not what the module has there"),
                "{error}"
            );
        }
    }
}
