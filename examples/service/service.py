"""A small web service that takes CSV files and imports each exactly once.

    python service.py STORE DATABASE [PORT]

    curl --data-binary @payments.csv localhost:8000/imports     {"id": "…"}
    curl localhost:8000/imports/ID                              {"status": "COMPLETE", "result": "…"}

The web part only stores tasks and reads them; a worker in the background runs what is unfinished, its
own and what a dead process left. Start as many of these processes as you like on one store.
"""

import json
import logging
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from imports_cm import cm_factory_imports, prepare_database

from checkmate import BindException, PersistenceDataNotFoundException, TaskEngineException, TaskStore

_log = logging.getLogger("imports")


class ImportService:
    """What the service does, without the web."""

    def __init__(self, url: str, database: str) -> None:
        self.url = url
        self.database = database
        prepare_database(database)
        self._wake, self._stopping = threading.Event(), threading.Event()

    def submit(self, text: str) -> str:
        """Store a task; its id. Once this returns, the import survives this process."""
        with cm_factory_imports(self.url, None, self.database, text) as task:
            task_id = task.task_id
        self._wake.set()
        return task_id

    def look(self, task_id: str) -> dict[str, Any]:
        task = TaskStore(self.url).get(task_id)
        return {"status": task.status, "result": task.result}

    def run_unfinished(self) -> int:
        """Run every task that is not finished and that nobody else runs; how many were run."""
        done = 0
        for task in TaskStore(self.url).list():
            if task.ended is None and not self._stopping.is_set():
                try:
                    cm_factory_imports(self.url, task.task_id, self.database, "").run()
                    done += 1
                except BindException:
                    _log.debug("%s is run by somebody else", task.task_id)
                except TaskEngineException:
                    _log.exception("%s failed; it is tried again at the next round", task.task_id)
        return done

    def work(self) -> None:
        """Run what is unfinished until `stop`; look again every few seconds for what others left."""
        while not self._stopping.is_set():
            self._wake.clear()
            self.run_unfinished()
            self._wake.wait(5)

    def stop(self) -> None:
        self._stopping.set()
        self._wake.set()


def make_server(service: ImportService, port: int) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            self._answer(202, {"id": service.submit(body)})

        def do_GET(self) -> None:
            try:
                self._answer(200, service.look(self.path.rpartition("/")[2]))
            except PersistenceDataNotFoundException as exc:
                self._answer(404, {"error": str(exc)})
            except TaskEngineException as exc:
                self._answer(400, {"error": str(exc)})

        def _answer(self, status: int, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
            _log.info(format, *args)

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


def main(url: str, database: str, port: str = "8000") -> None:
    service = ImportService(url, database)
    worker = threading.Thread(target=service.work)
    worker.start()
    server = make_server(service, int(port))
    print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        service.stop()
        worker.join()
        server.server_close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main(*sys.argv[1:])
