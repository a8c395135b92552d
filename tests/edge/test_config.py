"""The rig's YAML: what is right is read, what is wrong is named with its line, all at once."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from edge.config import BrokerConfig, PartPresentTrigger, RigConfig, load_rig_config
from edge.errors import ConfigError
from edge.signature import PublicKey
from edge.signing import create_key_pair
from edge.topics import RigIdentity, Segment, Topics

EXAMPLE = Path(__file__).parents[2] / "docs" / "rig.example.yaml"

RIGHT = """\
rig: {enterprise: acme, site: dresden, area: assembly, line: line-3, cell: cell-2}
camera:
  source: folder
  path: captures/plate
bundle: bundles/plate
broker:
  port: 1884
  protocol: 5
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "rig.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def mistakes(folder: Path, text: str) -> list[str]:
    path = written(folder, text)
    with pytest.raises(ConfigError) as caught:
        load_rig_config(path)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"{path}:") for line in lines)
    return [line.removeprefix(f"{path}:") for line in lines]


def test_example_of_the_docs_loads_and_names_every_section() -> None:
    config = load_rig_config(EXAMPLE)
    assert config.rig.root == "acme/dresden/assembly/line-3/cell-2/inspection"
    assert isinstance(config.trigger, PartPresentTrigger)
    of_several = {"recipes", "recipe", "schedule"}  # docs/recipes.md shows those
    assert config.model_fields_set == set(RigConfig.model_fields) - of_several


def test_relative_paths_start_at_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, RIGHT)
    monkeypatch.chdir("/")
    config = load_rig_config(path)
    assert config.bundle == tmp_path / "bundles" / "plate"
    assert config.camera.source == "folder"
    assert config.camera.path == tmp_path / "captures" / "plate"
    assert config.broker.protocol == "5"


def test_absolute_paths_stay(tmp_path: Path) -> None:
    config = load_rig_config(written(tmp_path, RIGHT.replace("bundles/plate", "/srv/bundle")))
    assert config.bundle == Path("/srv/bundle")


def test_misspelt_key_is_named_with_line_guess_and_what_is_allowed(tmp_path: Path) -> None:
    (line,) = mistakes(tmp_path, RIGHT.replace("port:", "prot:"))
    assert line.startswith('7: broker.prot: unknown key (did you mean "port"?); allowed: ')
    assert "keepalive_s" in line


def test_misspelt_key_inside_a_union_is_named_at_its_line(tmp_path: Path) -> None:
    text = RIGHT.replace("  path: captures/plate\n", "  path: captures/plate\n  splitt: test\n")
    (line,) = mistakes(tmp_path, text)
    assert line.startswith('5: camera.splitt: unknown key (did you mean "split"?); allowed: layout, path')


def test_all_mistakes_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    found = mistakes(
        tmp_path,
        """\
rig: {enterprise: ac/me, site: "", area: assembly, line: 3, cell: c}
camera: {source: simulatd}
trigger: {kind: part_present, min_area_mm2: 10, rearm_area_mm2: 20}
broker:
  port: 1884
  port: 1883
  username: x
  password_file: a
  password_env: B
""",
    )
    assert [line.split(": ")[:2] for line in found] == [
        ["1", "rig.enterprise"],
        ["1", "rig.line"],
        ["1", "rig.site"],
        ["2", "camera.source"],
        ["3", "trigger"],
        ["4", "broker"],
        ["6", "broker.port"],
    ]
    assert "'/' separates levels" in found[0]
    assert 'did you mean "simulated"' in found[3]
    assert "rearm_area_mm2 (20) must lie below min_area_mm2 (10)" in found[4]
    assert "password_file and password_env" in found[5]
    assert "stands twice, first on line 5" in found[6]


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("", 1, "must be a mapping"),
        ("- a\n- b\n", 1, "must be a mapping"),
        ("rig: [\n", 2, "is not YAML"),
        ("a: 1\n---\nb: 2\n", 2, "expected a single document"),
        ("rig: !!python/object/apply:os.system [id]\n", 1, "rig"),
        ("bundle: !!python/name:os.system x\n", 1, "could not determine a constructor"),
        ("rig: &a {x: *a}\n", 1, "refers to itself"),
        ("1: 2\n", 1, "a key must be plain text"),
        ("rig: {<<: {a: 1}}\n", 1, "a key must be plain text"),
    ],
)
def test_what_is_no_plain_mapping_is_refused(tmp_path: Path, text: str, line: int, says: str) -> None:
    found = mistakes(tmp_path, text)
    assert any(item.startswith(f"{line}: ") and says in item for item in found), found


def test_missing_file_and_wrong_encoding(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be read"):
        load_rig_config(tmp_path / "none.yaml")
    path = tmp_path / "latin.yaml"
    path.write_bytes("rig: {site: Köln}".encode("latin-1"))
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_rig_config(path)


@given(st.text(max_size=400))
def test_any_text_gives_a_config_or_a_config_error(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "rig.yaml"
    path.write_text(text.encode("utf-8", "replace").decode(), encoding="utf-8")
    with pytest.raises(ConfigError):
        load_rig_config(path)


class TestPassword:
    def test_from_a_file_its_first_line(self, tmp_path: Path) -> None:
        (tmp_path / "p").write_text("secret\n")
        broker = BrokerConfig(username="u", password_file=tmp_path / "p")
        password = broker.read_password()
        assert password is not None
        assert password.get_secret_value() == "secret"
        assert "secret" not in repr(password)

    def test_from_a_systemd_credential(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "mqtt").write_text("from systemd")
        broker = BrokerConfig(username="u", password_credential="mqtt")
        monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
        with pytest.raises(ConfigError, match="LoadCredential"):
            broker.read_password()
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
        password = broker.read_password()
        assert password is not None
        assert password.get_secret_value() == "from systemd"

    def test_from_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        broker = BrokerConfig(username="u", password_env="RIG_PASSWORD")
        monkeypatch.delenv("RIG_PASSWORD", raising=False)
        with pytest.raises(ConfigError, match="RIG_PASSWORD is not set"):
            broker.read_password()
        monkeypatch.setenv("RIG_PASSWORD", "p")
        assert broker.read_password() is not None

    @pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe"])
    def test_an_empty_or_binary_file_is_refused(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "p").write_bytes(content)
        with pytest.raises(ConfigError, match="password_file"):
            BrokerConfig(username="u", password_file=tmp_path / "p").read_password()

    def test_a_credential_can_not_leave_its_folder(self) -> None:
        with pytest.raises(ValidationError):
            BrokerConfig(username="u", password_credential="../../etc/shadow")


class TestTopics:
    @given(st.text(max_size=80))
    def test_an_accepted_segment_is_exactly_one_level(self, text: str) -> None:
        try:
            TypeAdapter(Segment).validate_python(text)
        except ValidationError:
            return
        assert 1 <= len(text) <= 64
        assert not set(text) & set("/+#\0")
        identity = RigIdentity(enterprise=text, site=text, area=text, line=text, cell=text)
        topic = Topics(identity.root).verdict
        assert topic.split("/") == [text] * 5 + ["inspection", "verdict"]
        assert topic.encode("utf-8").decode() == topic

    @given(st.text(max_size=20), st.sampled_from("/+#\0\n\x7f\ud800"), st.text(max_size=20))
    def test_what_mqtt_keeps_for_itself_is_refused(self, before: str, bad: str, after: str) -> None:
        with pytest.raises(ValidationError):
            TypeAdapter(Segment).validate_python(before + bad + after)

    @pytest.mark.parametrize("text", ["", " a", "a ", "$SYS", "x" * 65])
    def test_what_no_level_should_be_is_refused(self, text: str) -> None:
        with pytest.raises(ValidationError):
            TypeAdapter(Segment).validate_python(text)

    def test_client_ids_differ_between_rigs_that_read_alike(self) -> None:
        def rig(site: str) -> RigIdentity:
            return RigIdentity(enterprise="acme", site=site, area="a", line="Ω 1", cell="c")

        ids = {rig(site).client_id(name) for site in ("x", "y") for name in ("verdicts", "pictures")}
        assert len(ids) == 4
        assert all(i.isascii() for i in ids)


def test_all_sections_are_frozen_and_strict() -> None:
    def sections(model: type[BaseModel]) -> set[type[BaseModel]]:
        found = {model}
        for info in model.model_fields.values():
            if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
                found |= sections(info.annotation)
        return found

    for section in sections(RigConfig):
        assert section.model_config.get("frozen"), section
        assert section.model_config.get("extra") == "forbid", section


def test_trusted_keys_are_files_or_text(tmp_path: Path) -> None:
    text = base64.b64encode(Ed25519PrivateKey.generate().public_key().public_bytes_raw()).decode()
    theirs = create_key_pair(tmp_path / "acme")
    config = load_rig_config(written(tmp_path, RIGHT + f"trusted_keys: [acme.pub, {text}]\n"))
    assert config.read_trusted_keys() == (theirs, PublicKey.from_text(text))
    assert load_rig_config(written(tmp_path, RIGHT)).read_trusted_keys() is None


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("", "trusted_keys: is empty; list a public key, or remove"),
        ("[]", "trusted_keys: is empty; list a public key, or remove"),
        ("[3]", "trusted_keys.0: must be the file of a public key"),
        ("['']", "trusted_keys.0: must be the file of a public key"),
        ("acme.pub", "trusted_keys: input should be a valid tuple"),
    ],
)
def test_a_list_of_trusted_keys_that_trusts_nobody_is_a_mistake(
    tmp_path: Path, keys: str, words: str
) -> None:
    (mistake,) = mistakes(tmp_path, RIGHT + f"trusted_keys: {keys}\n")
    assert words in mistake


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing.pub", r"trusted_keys: .*missing\.pub: is missing"),
        ("acme", "is a private key, which must never lie on a rig"),
        (f"{'A' * 43}=", "a key under which anybody can sign"),  # 32 zero bytes
        ("rig.yaml", "is not a public key in PEM"),
    ],
)
def test_a_trusted_key_that_is_none_is_named(tmp_path: Path, name: str, words: str) -> None:
    create_key_pair(tmp_path / "acme")
    config = load_rig_config(written(tmp_path, RIGHT + f"trusted_keys: ['{name}']\n"))
    with pytest.raises(ConfigError, match=words):
        config.read_trusted_keys()


SEVERAL = """\
rig: {enterprise: acme, site: d, area: a, line: l, cell: c}
camera: {source: live}
recipes:
  plate:
    bundle: bundles/plate
  gland:
    bundle: /srv/gland
    trigger: {kind: command}
    calibration: own
recipe: plate
schedule:
  time_zone: Europe/Berlin
  switches:
    - {at: "06:00", recipe: gland}
"""


def test_recipes_are_read_with_their_paths(tmp_path: Path) -> None:
    book = load_rig_config(written(tmp_path, SEVERAL)).recipe_book()
    assert (book.first, book.names) == ("plate", ("gland", "plate"))
    assert book.beginning.bundle == tmp_path / "bundles" / "plate"
    assert book.recipes["gland"].calibration == tmp_path / "own"
    assert book.bundles == (Path("/srv/gland"), tmp_path / "bundles" / "plate")
    assert book.schedule is not None


def test_one_bundle_is_the_recipe_main(tmp_path: Path) -> None:
    config = load_rig_config(written(tmp_path, RIGHT))
    book = config.recipe_book()
    assert (book.first, book.names) == ("main", ("main",))
    assert (book.beginning.bundle, book.beginning.trigger) == (config.bundle, config.trigger)


@pytest.mark.parametrize(
    ("right", "wrong", "line", "message"),
    [
        ("    bundle: /srv/gland", "    bundel: /srv/gland", 7, 'did you mean "bundle"?'),
        ("kind: command", "kind: comand", 8, "recipes.gland.trigger.kind: 'comand' is unknown"),
        ("recipe: plate", "recipe: nut", 1, "no recipe is called 'nut'; there are plate, gland"),
        ("recipe: plate\n", "", 1, "recipe is missing"),
        ("recipe: gland}", "recipe: nut}", 1, "no recipe is called 'nut'"),
        ("recipe: plate", "recipe: plate\nbundle: b", 1, "one of the two"),
        ("recipe: plate", "recipe: plate\ntrigger: {kind: every_frame}", 1, "move it there"),
        ('at: "06:00"', "at: 22:30", 14, "quotation marks"),
        ("Europe/Berlin", "Europe/Atlantis", 12, "no time zone that this machine knows"),
        ("  gland:", '  "../gland":', 6, "should match pattern"),
    ],
)
def test_mistakes_in_recipes_are_found_where_they_stand(
    tmp_path: Path, right: str, wrong: str, line: int, message: str
) -> None:
    path = written(tmp_path, SEVERAL.replace(right, wrong, 1))
    with pytest.raises(ConfigError) as caught:
        load_rig_config(path)
    assert f"{path}:{line}:" in str(caught.value)
    assert message in str(caught.value)
