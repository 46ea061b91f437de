"""Widgets of the Processing dialogs; named by text in parameters, so that nothing else imports them."""
