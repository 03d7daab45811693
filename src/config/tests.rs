use super::*;

fn parse(text: &str) -> Result<Config> {
    let variable = |name: &str| (name == "ROOT").then(|| "/srv".to_owned());
    Config::parse(text, Path::new("b.toml"), &variable)
}
