"""Headless Chromium, told what to do through its DevTools protocol."""

import contextlib
import json
import os
import shutil
import subprocess
from pathlib import Path

CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser')
KEYS = {'Enter': ('\r', 13), 'Tab': ('', 9)}


class Page:
    """One page of a browser; `errors` are what its console and policy complained of."""

    def __init__(self, to_browser, from_browser):
        self._out, self._in = to_browser, from_browser
        self._session, self._number = None, 0
        self.errors, self.requests, self._events = [], [], []
        target = self.send('Target.createTarget', url='about:blank')['targetId']
        attached = self.send('Target.attachToTarget', targetId=target, flatten=True)
        self._session = attached['sessionId']
        for domain in ('Page', 'Runtime', 'Log', 'Network'):
            self.send(f'{domain}.enable')

    def send(self, method, **params):
        """What the browser answers; the events before it are kept."""
        self._number += 1
        message = {'id': self._number, 'method': method, 'params': params}
        if self._session:
            message['sessionId'] = self._session
        self._out.write(json.dumps(message).encode() + b'\0')
        self._out.flush()
        while (answer := self._receive()).get('id') != self._number:
            self._note(answer)
        assert 'error' not in answer, (method, answer)
        return answer['result']

    def _receive(self):
        text = bytearray()
        while (byte := self._in.read(1)) != b'\0':
            assert byte, 'the browser has gone'
            text += byte
        return json.loads(text)

    def _note(self, event):
        self._events.append(event.get('method'))
        if event.get('method') in ('Runtime.exceptionThrown', 'Log.entryAdded'):
            self.errors.append(event['params'])
        if event.get('method') == 'Runtime.consoleAPICalled':
            self.errors.append(event['params']['args'])
        if event.get('method') == 'Network.requestWillBeSent':
            self.requests.append(event['params']['request']['url'][:80])
        if event.get('method') == 'Page.javascriptDialogOpening':
            self.errors.append(event['params'])
            # Unanswered it would hold the page up; the answer comes with the others.
            self._number += 1
            message = {'id': self._number, 'method': 'Page.handleJavaScriptDialog'}
            message |= {'params': {'accept': True}, 'sessionId': self._session}
            self._out.write(json.dumps(message).encode() + b'\0')
            self._out.flush()

    def open(self, path: Path):
        self._events.clear()
        self.errors.clear()
        self.requests.clear()
        self.send('Page.navigate', url=path.resolve().as_uri())
        while 'Page.loadEventFired' not in self._events:
            self._note(self._receive())

    def value(self, expression):
        """Of JavaScript in the page."""
        answer = self.send(
            'Runtime.evaluate', expression=expression, returnByValue=True
        )
        assert 'exceptionDetails' not in answer, answer
        return answer['result'].get('value')

    def press(self, key, times=1):
        text, code = KEYS[key]
        for _ in range(times):
            for kind in ('keyDown', 'keyUp'):
                self.send(
                    'Input.dispatchKeyEvent',
                    type=kind,
                    key=key,
                    text=text if kind == 'keyDown' else '',
                    windowsVirtualKeyCode=code,
                )

    def type(self, text):
        self.send('Input.insertText', text=text)

    def resize(self, width, height=900, scale=1):
        self.send(
            'Emulation.setDeviceMetricsOverride',
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )


@contextlib.contextmanager
def opened(profile: Path):
    """A page of a new browser, which ends with it."""
    read_commands, commands = os.pipe()
    answers, write_answers = os.pipe()
    process = subprocess.Popen(
        [
            # The protocol's pipes are the descriptors 3 and 4.
            *('bash', '-c', f'exec "$0" "$@" 3<&{read_commands} 4>&{write_answers}'),
            *(CHROMIUM, '--headless=new', '--no-sandbox', '--disable-gpu'),
            *('--remote-debugging-pipe', '--no-first-run', '--disable-dev-shm-usage'),
            f'--user-data-dir={profile}',
        ],
        pass_fds=(read_commands, write_answers),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(read_commands)
    os.close(write_answers)
    with os.fdopen(commands, 'wb') as out, os.fdopen(answers, 'rb') as into:
        try:
            yield Page(out, into)
        finally:
            process.terminate()
            process.wait()
