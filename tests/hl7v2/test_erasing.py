"""$purge of a patient takes the messages about them out of the journal, resent ones too, and no others."""

from __future__ import annotations

import sqlite3

from tests.hl7v2.support import Peer, admission, patients, result, salt


def test_the_messages_of_a_purged_patient_are_gone_from_every_file(server, client) -> None:
    token, other = f"P{salt()}", f"Q{salt()}"
    with Peer(server) as peer:
        sent = [admission(token, f"C{token}"), result(token, f"D{token}"), admission(other, f"C{other}")]
        assert {peer.send(message).code for message in [*sent, sent[0]]} == {"AA"}
        (who,), (kept,) = patients(client, token), patients(client, other)

        def lines() -> list[str]:
            db = sqlite3.connect(f"file:{server.data_dir / 'fhir.db'}?mode=ro", uri=True)
            rows = db.execute("SELECT raw FROM record WHERE collection = 'hl7v2'").fetchall()
            db.close()
            return [raw.decode() for (raw,) in rows]

        assert sum(f"|{token}" in line for line in lines()) == 3
        answer = client.post(f"Patient/{who['id']}/$purge")
        assert answer.status_code == 200 and "incomplete" not in answer.text, answer.text
        assert not [line for line in lines() if token in line] and [line for line in lines() if other in line]
        files = b"".join(path.read_bytes() for path in server.data_dir.iterdir() if path.is_file())
        assert f"|{token}".encode() not in files and f"|{other}".encode() in files
        assert client.get(f"Patient/{kept['id']}").status_code == 200
        # The feed goes on: what comes later about the person is a new record.
        assert peer.send(result(token, f"E{token}")).code == "AA"
        assert len(patients(client, token)) == 1
