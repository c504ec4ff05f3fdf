"""Recordings as files: what is read, and what is said in one line of a file that can't be."""

from pathlib import Path

import numpy as np
import pytest

from adaptors.recording_file import parse_recording, read_recording
from streams.core.recording import WrongRecording

HEADER = "t_s,force_N,position_m\n"


def test_a_recording_is_its_columns() -> None:
    columns = parse_recording(
        "t_s,force_N,position_rad,velocity,set,side\n0.00,100,0.10,0.5,1,left\n0.01,101,0.11,0.6,1,R\n0.02,102,0.12,,2,\n"
    )
    assert columns.position_unit == "rad"
    assert columns.t_s.tolist() == [0.0, 0.01, 0.02]
    assert columns.force.tolist() == [100.0, 101.0, 102.0]
    assert columns.position.tolist() == [0.10, 0.11, 0.12]
    assert columns.velocity is not None
    assert columns.velocity[:2].tolist() == [0.5, 0.6]
    assert np.isnan(columns.velocity[2])
    assert columns.set_number is not None
    assert columns.set_number.tolist() == [1, 1, 2]
    assert columns.side == ("left", "right", "both")


@pytest.mark.parametrize(
    "text",
    [
        "T_S, Force_N ,Position_M\n0,1,2\n0.01,3,4\n",  # names in any case, with spaces around
        "t_s;force_N;position_m\n0,00;1,0;2,0\n0,01;3,0;4,0\n",  # as a German spreadsheet writes it
        "t_s\tforce_N\tposition_m\n0\t1\t2\n0.01\t3\t4\n",
        "\ufeff# a remark\n\nposition_m,comment,t_s,force_N\r\n2,a,0,1\r\n\r\n4,b,0.01,3\r\n,,,\r\n",
        '"t_s","force_N","position_m"\n"0","1","2"\n"0.01","3","4"\n',
    ],
)
def test_the_same_recording_may_be_written_in_many_ways(text: str, tmp_path: Path) -> None:
    path = tmp_path / "recording.csv"
    path.write_bytes(text.encode())
    columns = read_recording(path)
    assert (columns.t_s.tolist(), columns.force.tolist(), columns.position.tolist()) == ([0, 0.01], [1, 3], [2, 4])


@pytest.mark.parametrize("cell", ["", " ", "NaN", "nan", "NA", "null", "-"])
def test_an_empty_cell_is_no_sample(cell: str) -> None:
    columns = parse_recording(f"{HEADER}0,{cell},0.1\n0.01,2,{cell}\n")
    assert np.isnan([columns.force[0], columns.position[1]]).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("\n# nothing\n\n", "the file is empty"),
        (HEADER, "there is a header and no row"),
        (
            "t_s,position_m\n0,1\n",
            "no column force_N; a recording needs t_s, force_N and one of position_m or position_rad",
        ),
        ("t_s,force_kg,position_m\n0,1,2\n", "no column force_N but force_kg; a recording needs t_s, "),
        ("t_ms,force_N,position_m\n0,1,2\n", "no column t_s but t_ms; a recording needs"),
        ("t_s,force_N,position_mm\n0,1,2\n", "no column position_m or position_rad but position_mm; a recording"),
        ("t_s,force_N,position_m,position_rad\n0,1,2,3\n", "columns position_m and position_rad: one unit only"),
        ("t_s,force_N,force_N,position_m\n0,1,1,2\n", "line 1, column force_N: it is there twice"),
        (f"{HEADER}0,1,2\n0.01,abc,2\n", "line 3, column force_N: 'abc' is not a number"),
        (f"{HEADER}0,1,2\n\n0.01,1,2 m\n", "line 4, column position_m: '2 m' is not a number"),
        (f"{HEADER}0,1,2\n,1,2\n", "line 3, column t_s: '' is not a time"),
        (f"{HEADER}0,1,2\ninf,1,2\n", "line 3, column t_s: 'inf' is not a time"),
        (f"{HEADER}0,1,2\n0.02,1,2\n0.01,1,2\n", "line 4, column t_s: 0.01 after 0.02, and time never falls"),
        (f"{HEADER}0,1,2\n", "column t_s: one row has one time, no rate"),
        (f"{HEADER}3,1,2\n3,1,2\n", "column t_s: all rows have one time, no rate"),
        (f"{HEADER}0,1,2\n0.01,1\n", "line 3: 2 cells, the header has 3"),
        (f"{HEADER}0,1,2\n0,01,1,2\n", "line 3: 4 cells, the header has 3"),
        ("t_s,force_N,position_m,set\n0,1,2,1\n1,1,2,x\n", "line 3, column set: 'x' is not a number"),
        ("t_s,force_N,position_m,set\n0,1,2,0\n1,1,2,1\n", "line 2, column set: '0' is not a number from 1 to 100"),
        ("t_s,force_N,position_m,set\n0,1,2,1.5\n1,1,2,2\n", "line 2, column set: '1.5' is not a number from 1 to 100"),
        ("t_s,force_N,position_m,set\n0,1,2,2\n1,1,2,1\n", "line 3, column set: 1 after 2, and sets are in order"),
        ("t_s,force_N,position_m,side\n0,1,2,up\n1,1,2,left\n", "line 2, column side: 'up' is not left, right or both"),
        ('t_s,force_N,position_m\n0,"1,2\n0.01,1,2\n', "line 2: 2 cells, the header has 3"),
        (HEADER + '0,"' + 200_000 * "1" + ",2\n", "not CSV: "),
        ("\x00\x01\x02PK\n\x7f", "no column position_m or position_rad"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_the_place(text: str, message: str) -> None:
    with pytest.raises(WrongRecording) as wrong:
        parse_recording(text)
    assert str(wrong.value).startswith(message)
    assert "\n" not in str(wrong.value)


def test_bytes_that_are_no_text_are_no_traceback(tmp_path: Path) -> None:
    path = tmp_path / "recording.csv"
    path.write_bytes(bytes(range(256)))
    with pytest.raises(WrongRecording, match="no column"):
        read_recording(path)
