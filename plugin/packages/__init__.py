"""Model packages in the window: browser items, drop, card, consent."""
