//! Fenced blocks of the documentation.

use std::path::Path;

/// One fenced block.
#[derive(Clone, Debug)]
pub struct Block {
    /// The language after the opening fence: `sh`.
    pub language: String,
    /// The rest of that line: which test runs the block.
    pub name: String,
    pub text: String,
    pub line: usize,
}

/// One Markdown file of the project.
#[derive(Debug)]
pub struct Document {
    pub path: String,
    pub text: String,
}

impl Document {
    /// `path` is relative to the root of the project.
    pub fn read(path: &str) -> Self {
        let file = localcloud::workspace::root().join(Path::new(path));
        let text = std::fs::read_to_string(&file);
        let text = text.unwrap_or_else(|error| panic!("{path}: {error}"));
        Self {
            path: path.to_owned(),
            text,
        }
    }

    pub fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut open: Option<Block> = None;
        for (index, line) in self.text.lines().enumerate() {
            match (&mut open, line.strip_prefix("```")) {
                (None, Some(info)) => {
                    let (language, name) = info.split_once(' ').unwrap_or((info, ""));
                    open = Some(Block {
                        language: language.to_owned(),
                        name: name.trim().to_owned(),
                        text: String::new(),
                        line: index + 1,
                    });
                }
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (Some(block), None) => {
                    block.text.push_str(line);
                    block.text.push('\n');
                }
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{}: a block without an end", self.path);
        blocks
    }

    /// The text of the only `sh` block of this name, to the letter.
    pub fn block(&self, name: &str) -> String {
        let mut blocks = self.blocks();
        blocks.retain(|block| block.language == "sh" && block.name == name);
        assert_eq!(blocks.len(), 1, "blocks named {name} in {}", self.path);
        blocks.remove(0).text
    }
}
